use std::collections::HashMap;

use netlink_packet_core::{NlasIterator, parse_string};

use crate::Error;

/// Attributes at one level of a message, by kind; of several of a kind the last counts.
pub(crate) struct Attributes<'a>(HashMap<u16, &'a [u8]>);

impl<'a> Attributes<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut attributes = HashMap::new();
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute.map_err(|e| Error::Unreadable(e.to_string()))?;
            let value = attribute.into_inner();
            // The iterator has checked that the length is within the bytes and covers the header.
            let length = usize::from(u16::from_ne_bytes([value[0], value[1]]));
            let kind =
                u16::from_ne_bytes([value[2], value[3]]) & netlink_packet_core::NLA_TYPE_MASK;
            attributes.insert(kind, &value[4..length]);
        }
        Ok(Self(attributes))
    }

    /// The attributes within an attribute, which may be absent.
    pub(crate) fn nested(&self, kind: u16) -> Result<Option<Self>, Error> {
        self.0
            .get(&kind)
            .map(|bytes| Self::parse(bytes))
            .transpose()
    }

    /// The attributes within an attribute.
    pub(crate) fn within(&self, kind: u16, what: &'static str) -> Result<Self, Error> {
        self.nested(kind)?.ok_or_else(|| missing(what))
    }

    /// A number in the byte order of this machine, in as many bytes as it may have.
    pub(crate) fn number(&self, kind: u16, what: &'static str) -> Result<u64, Error> {
        self.optional_number(kind, what)?
            .ok_or_else(|| missing(what))
    }

    pub(crate) fn optional_number(
        &self,
        kind: u16,
        what: &'static str,
    ) -> Result<Option<u64>, Error> {
        let Some(&bytes) = self.0.get(&kind) else {
            return Ok(None);
        };
        let number = match *bytes {
            [a] => a.into(),
            [a, b] => u16::from_ne_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(length(what, bytes)),
        };
        Ok(Some(number))
    }

    /// A number that fits its type.
    pub(crate) fn fitting<T: TryFrom<u64>>(
        &self,
        kind: u16,
        what: &'static str,
    ) -> Result<T, Error> {
        let number = self.number(kind, what)?;
        T::try_from(number).map_err(|_| Error::Unreadable(format!("{what} {number}")))
    }

    /// A port, in network order on the wire.
    pub(crate) fn port(&self, kind: u16, what: &'static str) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.first(kind, what)?))
    }

    /// The first bytes of a value that has at least so many.
    pub(crate) fn first<const N: usize>(
        &self,
        kind: u16,
        what: &'static str,
    ) -> Result<[u8; N], Error> {
        let &bytes = self.0.get(&kind).ok_or_else(|| missing(what))?;
        bytes
            .first_chunk()
            .copied()
            .ok_or_else(|| length(what, bytes))
    }

    pub(crate) fn optional_text(
        &self,
        kind: u16,
        what: &'static str,
    ) -> Result<Option<String>, Error> {
        let text = self
            .0
            .get(&kind)
            .map(|bytes| parse_string(bytes))
            .transpose();
        text.map_err(|e| Error::Unreadable(format!("{what}: {e}")))
    }
}

fn missing(what: &str) -> Error {
    Error::Unreadable(format!("it has no {what}"))
}

fn length(what: &str, bytes: &[u8]) -> Error {
    Error::Unreadable(format!("{what} has {} bytes", bytes.len()))
}
