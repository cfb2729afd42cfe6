//! `virtual_server_group`: addresses, ranges and marks that share a pool.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use pointsman_model::Family;

use super::keyword::{Args, EntryWords, Reader};
use super::lex::Word;
use super::tree::Statement;
use super::virtual_server::FAMILIES;
use crate::diag::Place;

/// Most addresses that a range may hold.
const LARGEST_RANGE: u128 = 65_536;

/// A group as it stands in the file.
#[derive(Clone, Debug)]
pub struct GroupDraft {
    /// Where it stands.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub members: Vec<Member>,
}

/// An entry of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// The addresses from the first to the last, with a port; 0 for any.
    Addresses(IpAddr, IpAddr, u16),
    /// A mark, perhaps of a family.
    Mark(u32, Option<Family>),
}

impl Member {
    /// Every address of it; none for a mark.
    pub fn addresses(&self) -> Box<dyn Iterator<Item = IpAddr>> {
        match *self {
            Self::Addresses(IpAddr::V4(first), IpAddr::V4(last), _) => {
                let range = first.to_bits()..=last.to_bits();
                Box::new(range.map(|bits| Ipv4Addr::from_bits(bits).into()))
            }
            Self::Addresses(IpAddr::V6(first), IpAddr::V6(last), _) => {
                let range = first.to_bits()..=last.to_bits();
                Box::new(range.map(|bits| Ipv6Addr::from_bits(bits).into()))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// Local addresses that virtual servers share, as they stand in the file.
#[derive(Clone, Debug)]
pub struct LocalGroup {
    /// Where it stands.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub addresses: Vec<IpAddr>,
}

/// `local_address_group NAME { IP [IF] … }`, as DPVS's keepalived has it. Addresses are put on interfaces
/// elsewhere, and so the interface says nothing here.
pub fn read_local(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<LocalGroup> {
    let at = args.at();
    let block = args.block();
    let name = reader.text(args, "a name")?;
    let mut addresses = Vec::new();
    for entry in block {
        let mut words = Args::of_entry(entry);
        if let Some(word) = words.take()
            && let Some((low, high)) = range(reader, word)
        {
            addresses.extend(Member::Addresses(low, high, 0).addresses());
        }
        words.take();
        if let Some(word) = words.peek() {
            reader.warn(&word.at, "what follows here is ignored");
        }
    }
    Some(LocalGroup {
        at,
        name,
        addresses,
    })
}

/// `virtual_server_group NAME { … }`.
pub fn read(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<GroupDraft> {
    let at = args.at();
    let block = args.block();
    let name = reader.text(args, "a name")?;
    let members = block
        .iter()
        .filter_map(|entry| member(reader, entry))
        .collect();
    Some(GroupDraft { at, name, members })
}

fn member(reader: &mut Reader<'_>, entry: &Statement) -> Option<Member> {
    let mut words = Args::of_entry(entry);
    let first = words.take()?;
    let member = if first.text == "fwmark" {
        mark(reader, first, &mut words)?
    } else {
        let (low, high) = range(reader, first)?;
        let port = match words.take() {
            Some(word) => u16::try_from(reader.number_of(word, 0..=65535)?).ok()?,
            None => 0,
        };
        Member::Addresses(low, high, port)
    };
    if let Some(word) = words.peek() {
        reader.warn(&word.at, "what follows here is ignored");
    }
    Some(member)
}

fn mark(reader: &mut Reader<'_>, keyword: &Word, words: &mut EntryWords<'_>) -> Option<Member> {
    let Some(word) = words.take() else {
        reader.error(&keyword.at, "`fwmark` needs a number behind it");
        return None;
    };
    let mark = reader.number_of(word, 1..=u32::MAX.into())? as u32;
    let family = match words.take() {
        Some(word) => Some(reader.choice_of(word, FAMILIES)?),
        None => None,
    };
    Some(Member::Mark(mark, family))
}

/// `A`, `A-n`, `A-B`, `A/len`.
fn range(reader: &mut Reader<'_>, word: &Word) -> Option<(IpAddr, IpAddr)> {
    let found = parse_range(&word.text);
    match found {
        Some((low, high)) if span(low, high) < LARGEST_RANGE => Some((low, high)),
        Some(_) => {
            let message = format!("`{}` holds more than {LARGEST_RANGE} addresses", word.text);
            reader.error(&word.at, message);
            None
        }
        None => {
            let message = format!("`{}` is no IP address, range or prefix", word.text);
            reader.error(&word.at, message);
            None
        }
    }
}

fn parse_range(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((low, high)) = text.split_once('-') {
        let low: IpAddr = low.parse().ok()?;
        let high = match (low, high.parse::<IpAddr>()) {
            (_, Ok(high)) => high,
            (IpAddr::V4(low), Err(_)) => {
                let [a, b, c, _] = low.octets();
                Ipv4Addr::new(a, b, c, high.parse().ok()?).into()
            }
            (IpAddr::V6(low), Err(_)) => {
                let last = u16::from_str_radix(high, 16).ok()?;
                Ipv6Addr::from_bits(low.to_bits() & !0xffff | u128::from(last)).into()
            }
        };
        return (low.is_ipv4() == high.is_ipv4() && low <= high).then_some((low, high));
    }
    if text.contains('/') {
        let net: IpNet = text.parse().ok()?;
        return Some((net.network(), net.broadcast()));
    }
    let addr: IpAddr = text.parse().ok()?;
    Some((addr, addr))
}

fn span(low: IpAddr, high: IpAddr) -> u128 {
    match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => (high.to_bits() - low.to_bits()).into(),
        (IpAddr::V6(low), IpAddr::V6(high)) => high.to_bits() - low.to_bits(),
        _ => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_all_their_forms() {
        for (text, expected) in [
            ("10.0.0.1", Some(("10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1-9", Some(("10.0.0.1", "10.0.0.9"))),
            ("10.0.0.250-10.0.1.3", Some(("10.0.0.250", "10.0.1.3"))),
            ("10.0.0.0/30", Some(("10.0.0.0", "10.0.0.3"))),
            ("2001:db8::2-9f", Some(("2001:db8::2", "2001:db8::9f"))),
            ("ae00::/127", Some(("ae00::", "ae00::1"))),
            ("10.0.0.9-1", None),
            ("10.0.0.1-2001:db8::1", None),
            ("10.0.0.1-300", None),
            ("x", None),
        ] {
            let expected = expected.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
            assert_eq!(parse_range(text), expected, "{text}");
        }
        let all = |m: Member| m.addresses().count();
        let (low, high) = parse_range("255.255.255.254-255").unwrap();
        assert_eq!(all(Member::Addresses(low, high, 0)), 2);
        assert_eq!(all(Member::Mark(1, None)), 0);
    }
}
