//! The part of BER (X.690) that LDAP uses (RFC 4511 §5.1): tags of one byte, definite lengths.
//!
//! Why no crate: `ldap3` panics on answers that are not as expected, `lber` calls itself for each level
//! that a server nests, and DER crates refuse the long lengths that some servers send. A reader
//! that borrows, and never descends by itself, is shorter than guarding any of them.

use super::ldap::Malformed;

/// A tag, its contents, and what follows it.
pub struct Element<'a> {
    /// Class, form and number in one byte.
    pub tag: u8,
    /// Contents.
    pub content: &'a [u8],
    /// Bytes after it.
    pub rest: &'a [u8],
}

/// How long the element is that begins with `bytes`, head included; `None` when that does not show yet.
///
/// # Errors
/// When its length is indefinite or needs more than four bytes.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(&[_, first]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let octets = match first {
        0..=0x7f => return Ok(Some(2 + usize::from(first))),
        0x81..=0x84 => usize::from(first & 0x7f),
        _ => return Err(Malformed("a length that LDAP does not use")),
    };
    let Some(octets) = bytes.get(2..2 + octets) else {
        return Ok(None);
    };
    let content = octets
        .iter()
        .fold(0_usize, |length, &octet| length << 8 | usize::from(octet));
    Ok(Some(content.saturating_add(2 + octets.len())))
}

/// Takes the element that `bytes` begin with.
///
/// # Errors
/// When it is cut off.
pub fn element(bytes: &[u8]) -> Result<Element<'_>, Malformed> {
    const CUT: Malformed = Malformed("an element that is cut off");
    let whole = length(bytes)?.ok_or(CUT)?;
    let (element, rest) = bytes.split_at_checked(whole).ok_or(CUT)?;
    let head = match element[1] {
        0..=0x7f => 2,
        octets => 2 + usize::from(octets & 0x7f),
    };
    Ok(Element {
        tag: element[0],
        content: &element[head..],
        rest,
    })
}

/// Takes the element that `bytes` begin with, if its tag is `tag`; gives contents and rest.
///
/// # Errors
/// When it is cut off or another one.
pub fn expect(tag: u8, bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let element = element(bytes)?;
    match element.tag == tag {
        true => Ok((element.content, element.rest)),
        false => Err(Malformed("another element than the protocol has there")),
    }
}

/// Writes an element whose contents are `parts` one after the other.
pub fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => bytes.push(short),
        // Four bytes hold any length that a configuration can have.
        _ => {
            bytes.push(0x84);
            bytes.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_of_all_forms() {
        for (bytes, expected) in [
            (&[0x30][..], Some(None)),
            (&[0x30, 0], Some(Some(2))),
            (&[0x30, 0x7f], Some(Some(129))),
            (&[0x30, 0x81, 0x80], Some(Some(131))),
            (&[0x30, 0x84, 0, 0, 0, 5], Some(Some(11))),
            (&[0x30, 0x84, 0, 0], Some(None)),
            (&[0x30, 0x80], None),
            (&[0x30, 0x85, 0, 0, 0, 0, 1], None),
        ] {
            assert_eq!(length(bytes).ok(), expected, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tag: u8, content: Vec<u8>, rest: Vec<u8>) {
            let mut bytes = write(tag, &[&content]);
            bytes.extend_from_slice(&rest);
            let element = element(&bytes).unwrap();
            prop_assert_eq!((element.tag, element.content, element.rest), (tag, &*content, &*rest));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(element) = element(&bytes) {
                prop_assert!(element.content.len() + element.rest.len() + 2 <= bytes.len());
            }
        }
    }
}
