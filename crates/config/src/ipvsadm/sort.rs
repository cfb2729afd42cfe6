//! The order of listings.
//!
//! Marks, and the words of addresses, are compared by the sign of their 32-bit difference, which
//! wraps, so that 224.0.0.9 comes before 10.0.0.1, and fd00::1 before 2001:db8::1; three addresses
//! can form a ring. The order of a ring
//! depends on the sorting algorithm: this is the stable merge sort of the C library.

use std::cmp::Ordering;
use std::net::IpAddr;

use pointsman_model::{Family, ServerView, ServiceKey, ServiceView};

/// Services in the order of a listing.
pub(super) fn services(views: &[ServiceView], sorted: bool) -> Vec<&ServiceView> {
    let views: Vec<_> = views.iter().collect();
    if sorted {
        merge_sort(views, &|a, b| compare_services(&a.spec.key, &b.spec.key))
    } else {
        views
    }
}

/// Servers in the order of a listing.
pub(super) fn servers(views: &[ServerView], sorted: bool) -> Vec<&ServerView> {
    let views: Vec<_> = views.iter().collect();
    if sorted {
        merge_sort(views, &|a, b| compare_servers(a, b))
    } else {
        views
    }
}

fn compare_services(a: &ServiceKey, b: &ServiceKey) -> Ordering {
    let mark = |key: &ServiceKey| match *key {
        ServiceKey::Mark { mark, .. } => mark,
        ServiceKey::Address { .. } => 0,
    };
    wrapping(mark(a), mark(b))
        .then_with(|| a.family().cmp(&b.family()))
        .then_with(|| match (*a, *b) {
            (
                ServiceKey::Address {
                    protocol: pa,
                    addr: aa,
                    port: na,
                },
                ServiceKey::Address {
                    protocol: pb,
                    addr: ab,
                    port: nb,
                },
            ) => pa
                .number()
                .cmp(&pb.number())
                .then_with(|| compare_addresses(aa, ab))
                .then_with(|| na.cmp(&nb)),
            _ => Ordering::Equal,
        })
}

fn compare_servers(a: &ServerView, b: &ServerView) -> Ordering {
    let (a, b) = (&a.spec.key, &b.spec.key);
    compare_addresses(a.addr, b.addr).then_with(|| a.port.cmp(&b.port))
}

/// The family of the first decides how many words are compared; of a mixed pair, the other is read
/// as if it had that family.
fn compare_addresses(a: IpAddr, b: IpAddr) -> Ordering {
    let len = match Family::from(a) {
        Family::V4 => 1,
        Family::V6 => 4,
    };
    words(a)
        .into_iter()
        .zip(words(b))
        .take(len)
        .map(|(a, b)| wrapping(a, b))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn words(addr: IpAddr) -> [u32; 4] {
    match addr {
        IpAddr::V4(v4) => [v4.to_bits(), 0, 0, 0],
        IpAddr::V6(v6) => [96, 64, 32, 0].map(|shift| (v6.to_bits() >> shift) as u32),
    }
}

fn wrapping(a: u32, b: u32) -> Ordering {
    (a.wrapping_sub(b) as i32).cmp(&0)
}

/// A stable merge sort that splits at half, rounded down. `slice::sort_by` will not do: it may
/// panic when the order is none.
fn merge_sort<T>(items: Vec<T>, compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let mut left = items;
    let right = left.split_off(left.len() / 2);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut left = merge_sort(left, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let first = if compare(a, b).is_le() {
            &mut left
        } else {
            &mut right
        };
        merged.extend(first.next());
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_is_stable_and_complete() {
        let items: Vec<(u32, usize)> = [5, 3, 5, 1, 3, 9, 1, 1].into_iter().zip(0..).collect();
        let mut expected = items.clone();
        expected.sort_by_key(|&(n, _)| n);
        assert_eq!(merge_sort(items, &|a, b| a.0.cmp(&b.0)), expected);
    }

    #[test]
    fn far_addresses_wrap() {
        let before = |a: &str, b: &str| {
            compare_addresses(a.parse().unwrap(), b.parse().unwrap()) == Ordering::Less
        };
        assert!(before("224.0.0.9", "0.0.0.0"));
        assert!(before("10.0.0.9", "10.0.0.10"));
        assert!(before("fd00::1", "fd00::2"));
        assert!(before("fd00::1", "2001:db8::1"));
        assert!(before("fd00::1", "10.0.0.1"));
    }
}
