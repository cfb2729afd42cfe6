//! Addresses: `virtual_ipaddress`, `virtual_ipaddress_excluded`, `static_ipaddress`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use pointsman_model::vrrp::{Broadcast, VirtualAddress};

use super::keyword::{Args, EntryWords, Reader};
use super::lex::Word;
use super::names::Numbers;
use super::tree::Statement;
use crate::diag::Severity;

/// Options of an address, for hints and the documentation.
pub const OPTIONS: &[(&str, &str)] = &[
    ("dev", "IF"),
    ("brd", "IP|+|-"),
    ("broadcast", "IP|+|-"),
    ("scope", "NAME|N"),
    ("label", "STRING"),
    ("peer", "IP[/N]"),
    ("home", ""),
    ("-nodad", ""),
    ("mngtmpaddr", ""),
    ("noprefixroute", ""),
    ("autojoin", ""),
    ("preferred_lft", "SECS|forever"),
    ("no_track", ""),
    ("use_vmac", ""),
    ("track_group", "NAME"),
];

/// An address and its options; `None` if it cannot be used.
pub fn read(reader: &mut Reader<'_>, entry: &Statement) -> Option<VirtualAddress> {
    let mut words = Args::of_entry(entry);
    let first = words.take()?;
    let net = net(reader, first)?;
    let mut address = VirtualAddress::new(net);
    let mut good = true;
    let mut lifetime = None;
    while let Some(word) = words.take() {
        good &= option(reader, &mut address, &mut lifetime, word, &mut words).is_some();
    }
    if let Some(lifetime) = lifetime {
        address.preferred_lifetime = lifetime;
    }
    if address.peer.is_some() && address.broadcast.take().is_some() {
        reader.error(&first.at, "an address with a peer has no broadcast address");
    }
    if address.use_vmac && address.interface.is_none() {
        reader.error(&first.at, "`use_vmac` needs `dev`, and is left out");
        address.use_vmac = false;
    }
    if !good {
        reader.error(&first.at, format!("the address {} is left out", first.text));
    }
    good.then_some(address)
}

/// `None` when the address cannot be used because of it.
fn option(
    reader: &mut Reader<'_>,
    address: &mut VirtualAddress,
    lifetime: &mut Option<Option<Duration>>,
    word: &Word,
    words: &mut EntryWords<'_>,
) -> Option<()> {
    match word.text.as_str() {
        "dev" => {
            let interface = reader.value(words, word)?;
            if address.interface.is_some() {
                reader.error(&word.at, "`dev` is there already");
                return None;
            }
            reader.check_interface(interface);
            address.interface = Some(interface.text.clone());
        }
        "brd" | "broadcast" => {
            let value = reader.value(words, word)?;
            let IpAddr::V4(_) = address.ip() else {
                reader.error(&word.at, "only IPv4 has broadcast addresses");
                return None;
            };
            let wild = |b| (address.address.prefix_len() <= 30).then_some(b);
            let broadcast = match value.text.as_str() {
                "+" => wild(Broadcast::Ones),
                "-" => wild(Broadcast::Zeros),
                text => text.parse::<Ipv4Addr>().ok().map(Broadcast::Address),
            };
            if broadcast.is_none() {
                reader.error(
                    &value.at,
                    format!("`{}` is no broadcast address of it", value.text),
                );
            }
            address.broadcast = broadcast;
        }
        "scope" => {
            let value = reader.value(words, word)?;
            let scope = reader.routing_number(value, Numbers::Scopes)?;
            address.scope = u8::try_from(scope).ok();
        }
        "label" => {
            let value = reader.value(words, word)?;
            if value.text.len() > 15 {
                reader.error(&value.at, "a label has 15 characters at most");
                return None;
            }
            address.label = Some(value.text.clone());
        }
        "peer" => {
            let value = reader.value(words, word)?;
            let peer = net(reader, value)?;
            if peer.addr().is_ipv4() != address.ip().is_ipv4() {
                reader.error(&value.at, "the peer is of the other family");
                return None;
            }
            address.peer = Some(peer.addr());
            address.address = IpNet::new_assert(address.ip(), peer.prefix_len());
        }
        "home" => address.flags.home = true,
        "-nodad" => address.flags.nodad = false,
        "mngtmpaddr" => address.flags.mngtmpaddr = true,
        "noprefixroute" => address.flags.noprefixroute = true,
        "autojoin" => address.flags.autojoin = true,
        "preferred_lft" => {
            let value = reader.value(words, word)?;
            *lifetime = Some(match value.text.as_str() {
                "forever" => None,
                _ => Some(Duration::from_secs(
                    reader.number_of(value, 0..=u32::MAX.into())? as u64,
                )),
            });
        }
        "no_track" => address.no_track = true,
        "use_vmac" => address.use_vmac = true,
        "track_group" => address.track_group = Some(reader.value(words, word)?.text.clone()),
        other => {
            let near = crate::diag::nearest(other, OPTIONS.iter().map(|(name, _)| *name));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{other}` is no option of an address, and is ignored");
            reader.say(Severity::Error, word.at.clone(), message, hint);
        }
    }
    Some(())
}

/// `ADDRESS[/PREFIX]`; a prefix that is too long becomes the longest.
pub fn net(reader: &mut Reader<'_>, word: &Word) -> Option<IpNet> {
    let (address, prefix) = match word.text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (word.text.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        reader.error(&word.at, format!("`{}` is no IP address", word.text));
        return None;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match prefix.map(str::parse::<u8>) {
        None => longest,
        Some(Ok(length)) if length <= longest => length,
        Some(_) => {
            let message = format!("`{}` has no prefix length of 0 to {longest}", word.text);
            reader.error(&word.at, format!("{message}; {longest} is taken"));
            longest
        }
    };
    Some(IpNet::new_assert(address, length))
}
