//! Addresses and numbers as the C library reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_model::Protocol;

use super::names::Names;

/// A decimal number as `strtol` takes it (leading blanks, a sign), within bounds, and nothing
/// after it.
pub(super) fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| (min..=max).contains(n))
}

/// An IPv4 address as `inet_aton` takes it: one to four parts, each decimal, octal (`0…`) or
/// hexadecimal (`0x…`), the last one filling what is left; whatever follows a blank is ignored.
pub(super) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).next()?;
    let parts = text
        .split('.')
        .map(c_number)
        .collect::<Option<Vec<u32>>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|&part| part > 255) {
        return None;
    }
    let free_bits = 32 - 8 * leading.len() as u32;
    if u64::from(*last) >> free_bits != 0 {
        return None;
    }
    let high = leading
        .iter()
        .fold(0_u64, |sum, &part| sum << 8 | u64::from(part));
    let addr = (high << free_bits) | u64::from(*last);
    Some(Ipv4Addr::from_bits(addr as u32))
}

fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (&text[1..], 8)
    } else {
        (text, 10)
    };
    // from_str_radix would take a sign.
    if digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// `host[:port]` of a service or a real server: the address, and the port if there is one. Without
/// a protocol, ports must be numbers.
pub(super) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    // A bare number is a forgotten host, not an address.
    if text.is_empty() || text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        let port = port(rest.strip_prefix(':')?, protocol, names)?;
        if let Ok(addr) = host.parse::<Ipv6Addr>() {
            return Some((addr.into(), Some(port)));
        }
        // The original loses the port here.
        return Some((ipv4_host(host, names)?.into(), None));
    }
    if let Ok(addr) = text.parse::<Ipv6Addr>() {
        return Some((addr.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, text)) => (host, Some(port(text, protocol, names)?)),
        None => (text, None),
    };
    Some((ipv4_host(host, names)?.into(), port))
}

fn ipv4_host(text: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    if text.is_empty() {
        return None;
    }
    inet_aton(text).or_else(|| names.host_addr(text))
}

fn port(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, 65535) {
        Some(port) => u16::try_from(port).ok(),
        None => names.service_port(text, protocol?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_read_as_in_the_c_library() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("10.1", Some("10.0.0.1")),
            ("1.2.3", Some("1.2.0.3")),
            ("0x7f000001", Some("127.0.0.1")),
            ("010.1.1.1", Some("8.1.1.1")),
            ("4294967295", Some("255.255.255.255")),
            ("4294967296", None),
            ("0", Some("0.0.0.0")),
            ("1.2.3.0x4", Some("1.2.3.4")),
            ("1.2.3.08", None),
            ("1.2.65535", Some("1.2.255.255")),
            ("1.2.65536", None),
            ("1.16777216", None),
            ("1.2.3.4.5", None),
            ("256.1.1.1", None),
            ("1.2.3.256", None),
            ("0x", None),
            ("1..2", None),
            ("1.2.", None),
            ("", None),
            ("+1.2.3.4", None),
            ("255.255.0.0 x", Some("255.255.0.0")),
        ] {
            let expected = expected.map(|a| a.parse().unwrap());
            assert_eq!(inet_aton(text), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_in_the_c_library() {
        for (text, expected) in [
            ("0", Some(0)),
            ("010", Some(10)),
            (" 12", Some(12)),
            ("+12", Some(12)),
            ("-1", None),
            ("12 ", None),
            ("0x10", None),
            ("", None),
            ("+", None),
            ("- 1", None),
            ("100", Some(100)),
            ("101", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(number(text, 0, 100), expected, "{text:?}");
        }
    }
}
