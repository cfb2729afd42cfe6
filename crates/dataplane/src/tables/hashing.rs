//! Tables of the schedulers that hash addresses: which server each slot belongs to.

use std::iter;

use pointsman_core::sched::{buckets, dh, mh, sh};

use super::schedule::{Candidate, Compiled};

/// Most turns of one server in a row in mh are below two to this power, as with the kernel's default
/// size of table.
const WEIGHT_BITS: u32 = 6;

/// One slot after the other goes to one server after the other, whatever its weight.
pub(super) fn dh(list: &[Candidate]) -> Compiled {
    let owners = (0..list.len()).cycle().take(dh::SLOTS as usize);
    fill(list, &owners.collect::<Vec<_>>())
}

/// Each server takes as many neighbouring slots as its weight says, and one if that is 0; then the
/// next.
pub(super) fn sh(list: &[Candidate]) -> Compiled {
    let own = |(position, c): (usize, &Candidate)| {
        iter::repeat_n(position, c.weight.clamp(1, sh::SLOTS) as usize)
    };
    let owners = list.iter().enumerate().flat_map(own);
    fill(
        list,
        &owners.cycle().take(sh::SLOTS as usize).collect::<Vec<_>>(),
    )
}

/// Servers with a last weight take turns to claim the slot each wants most.
pub(super) fn mh(claimants: &[Candidate]) -> Compiled {
    let step = claimants.iter().fold(0, |d, c| gcd(d, c.last_weight));
    let Some(heaviest) = claimants.iter().map(|c| c.last_weight / step).max() else {
        return Compiled::default();
    };
    let shift = (heaviest.ilog2() + 1).saturating_sub(WEIGHT_BITS);
    let mut wants: Vec<(u32, u32)> = claimants
        .iter()
        .map(|c| mh::preference(c.identity))
        .collect();
    let mut owners = vec![usize::MAX; mh::SLOTS as usize];
    let mut free = owners.len();
    'all: loop {
        for (position, c) in claimants.iter().enumerate() {
            let (slot, skip) = &mut wants[position];
            for _ in 0..((c.last_weight / step) >> shift).max(1) {
                while owners[*slot as usize] != usize::MAX {
                    *slot = (*slot + *skip) % mh::SLOTS;
                }
                owners[*slot as usize] = position;
                free -= 1;
                if free == 0 {
                    break 'all;
                }
            }
        }
    }
    fill(claimants, &owners)
}

/// The table in which each slot belongs to the server at a position of the list.
fn fill(list: &[Candidate], owners: &[usize]) -> Compiled {
    // Only those that own something are numbered.
    let Some(last) = owners.iter().max() else {
        return Compiled::default();
    };
    let count = last + 1;
    let slots = owners.len() as u32;
    let mut words = vec![0; buckets::words(slots, count as u32) as usize];
    words[0] = count as u64;
    for (slot, owner) in (0..).zip(owners) {
        let (at, bits) = buckets::slot(slot, *owner as u16);
        words[at as usize] |= bits;
    }
    for (number, server) in (0..).zip(&list[..count]) {
        let (at, bits) = buckets::listed(slots, number, server.server);
        words[at as usize] |= bits;
    }
    Compiled {
        words,
        len: slots as u16,
        turn: 0,
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers .13, .12 and .11 of 10.0.0.0/24, port 80, newest first.
    fn list(weights: [u32; 3]) -> Vec<Candidate> {
        let of = |(host, weight): (u32, u32)| Candidate {
            server: host,
            weight,
            last_weight: weight,
            identity: 0x0a00_0000 + host + 80,
        };
        [13, 12, 11].into_iter().zip(weights).map(of).collect()
    }

    /// Whom each slot belongs to, as the programs read it.
    fn owners(table: &Compiled) -> Vec<u32> {
        let numbered = |number: u64| {
            let words = 1 + u64::from(table.len).div_ceil(6);
            (table.words[(words + number / 2) as usize] >> (number % 2 * 32)) as u32
        };
        let word = |slot: usize| table.words[1 + slot / 6] >> (slot % 6 * 10);
        (0..usize::from(table.len))
            .map(|slot| numbered(word(slot) & 1023))
            .collect()
    }

    fn counts(owners: &[u32]) -> [usize; 3] {
        [13, 12, 11].map(|host| owners.iter().filter(|owner| **owner == host).count())
    }

    /// Tables the kernel made.
    #[test]
    fn mh_makes_the_tables_of_the_kernel() {
        let equal = owners(&mh(&list([1, 1, 1])));
        assert_eq!(
            equal[..24],
            [
                12, 13, 13, 11, 12, 12, 11, 11, 13, 12, 12, 11, 11, 12, 12, 12, 11, 13, 12, 13, 11,
                11, 13, 12
            ]
        );
        assert_eq!(counts(&equal), [1365, 1364, 1364]);
        assert_eq!(
            [940, 1482, 1263].map(|slot: usize| equal[slot]),
            [13, 13, 11]
        );
        let weighted = owners(&mh(&list([1, 2, 3])));
        assert_eq!(
            weighted[..24],
            [
                12, 11, 11, 11, 12, 12, 11, 11, 13, 12, 12, 11, 11, 12, 12, 12, 11, 11, 12, 13, 11,
                11, 13, 12
            ]
        );
        assert_eq!(counts(&weighted), [683, 1364, 2046]);
        assert_eq!(
            owners(&mh(&list([700, 1400, 2100]))),
            weighted,
            "only ratios count"
        );
    }

    #[test]
    fn large_ratios_lose_resolution_but_nobody_loses_all() {
        let owners = owners(&mh(&list([1, 1, 1 << 30])));
        let [a, b, c] = counts(&owners);
        assert!(a > 0 && a.abs_diff(b) <= 1 && c > 30 * a, "{a} {b} {c}");
    }

    #[test]
    fn one_server_has_every_slot() {
        let owners = owners(&mh(&list([5, 0, 0])[..1]));
        assert_eq!(counts(&owners), [4093, 0, 0]);
    }

    #[test]
    fn sh_gives_neighbouring_slots_by_weight_and_one_for_weight_zero() {
        let owned = owners(&sh(&list([1, 2, 3])));
        assert_eq!(owned[..7], [13, 12, 12, 11, 11, 11, 13]);
        assert_eq!(counts(&owned), [43, 86, 127]);
        assert_eq!([194, 103, 2].map(|slot: usize| owned[slot]), [12, 12, 12]);
        assert_eq!(owners(&sh(&list([0, 1, 1000])))[..4], [13, 12, 11, 11]);
        assert_eq!(sh(&[]), Compiled::default());
    }

    #[test]
    fn dh_gives_each_server_every_third_slot() {
        let owned = owners(&dh(&list([0, 5, 7])));
        assert_eq!(owned[..4], [13, 12, 11, 13]);
        assert_eq!(owned.len(), 256);
    }

    #[test]
    fn an_mh_table_of_680_servers_takes_1024_words() {
        let list: Vec<_> = (0..1024)
            .map(|server| Candidate {
                server,
                weight: 1,
                last_weight: 1,
                identity: server.wrapping_mul(0x9e37_79b1),
            })
            .collect();
        assert_eq!(mh(&list[..680]).words.len(), 1024);
        let all = owners(&mh(&list));
        assert_eq!(all.iter().max(), Some(&1023));
    }
}
