//! Names for numbers of routing: tables, protocols, scopes, realms, interface groups, as iproute2
//! has them.

use std::collections::HashMap;
use std::path::Path;

use super::include::Files;
use super::sequence::integer;

/// Where iproute2's files may lie; the first found is taken.
const DIRECTORIES: [&str; 3] = ["/etc/iproute2", "/usr/share/iproute2", "/usr/lib/iproute2"];

/// Which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// Routing tables.
    Tables,
    /// Who made a route or rule.
    Protocols,
    /// Scopes of addresses and routes.
    Scopes,
    /// Realms.
    Realms,
    /// Interface groups.
    Groups,
}

impl Numbers {
    fn file(self) -> &'static str {
        match self {
            Self::Tables => "rt_tables",
            Self::Protocols => "rt_protos",
            Self::Scopes => "rt_scopes",
            Self::Realms => "rt_realms",
            Self::Groups => "group",
        }
    }

    /// What the kernel's headers name.
    fn built_in(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::Tables => &[("default", 253), ("main", 254), ("local", 255)],
            Self::Protocols => &[
                ("redirect", 1),
                ("kernel", 2),
                ("boot", 3),
                ("static", 4),
                ("ra", 9),
                ("keepalived", 18),
            ],
            Self::Scopes => &[
                ("global", 0),
                ("site", 200),
                ("link", 253),
                ("host", 254),
                ("nowhere", 255),
            ],
            Self::Realms => &[("cosmos", 0)],
            Self::Groups => &[("default", 0)],
        }
    }

    /// The largest number.
    fn largest(self) -> u32 {
        match self {
            Self::Tables | Self::Groups => u32::MAX,
            Self::Protocols | Self::Scopes => 255,
            Self::Realms => 65535,
        }
    }
}

/// The names that were read so far.
#[derive(Default)]
pub struct Names {
    known: HashMap<Numbers, HashMap<String, u32>>,
}

impl Names {
    /// The number that a word means; files are read when a name is asked for.
    pub fn number(&mut self, numbers: Numbers, word: &str, files: &dyn Files) -> Option<u32> {
        if let Ok(number) = integer(word) {
            return u32::try_from(number)
                .ok()
                .filter(|n| *n <= numbers.largest());
        }
        let known = self.known.entry(numbers).or_insert_with(|| {
            let read = |dir: &&str| files.read(&Path::new(dir).join(numbers.file())).ok();
            let bytes = DIRECTORIES.iter().find_map(read).unwrap_or_default();
            let mut known = parse(&String::from_utf8_lossy(&bytes));
            for (name, number) in numbers.built_in() {
                known.entry((*name).to_owned()).or_insert(*number);
            }
            known
        });
        known.get(word).copied().filter(|n| *n <= numbers.largest())
    }
}

/// `NUMBER NAME` a line, `#` begins a comment.
fn parse(text: &str) -> HashMap<String, u32> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let number = u32::try_from(integer(words.next()?).ok()?).ok()?;
            Some((words.next()?.to_owned(), number))
        })
        .collect()
}
