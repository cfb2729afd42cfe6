//! `haresources`: which groups of resources there are, and who likes to have them.
//!
//! ```text
//! node1 10.0.0.170/24/eth0 ldirectord::www.cf Filesystem::/dev/sda1::/data::ext4 httpd \
//!       MailTo::root
//! ```

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Problem, Word, words};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaResources {
    /// Groups in the order of the file.
    pub groups: Vec<Group>,
}

/// Resources that move together; a logical line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Line, counted from 1.
    pub line: usize,
    /// The node that has it when both are there, in lower case.
    pub node: String,
    /// Taken from left to right, released from right to left; never empty.
    pub resources: Vec<Resource>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// As it stands in the file.
    pub text: String,
    /// The script: a name in `/etc/ha.d/resource.d` or `/etc/init.d`.
    pub script: String,
    /// What stands between `::`.
    pub args: Vec<String>,
    /// What is known about it without a script.
    pub kind: Kind,
}

/// Resources that need no script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `IPaddr`, `IPaddr2`, `IPv6addr`, or a bare address.
    Address(Address),
    /// `ldirectord::FILE`.
    Ldirectord(String),
    /// Anything else.
    Script,
}

/// A service address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// Prefix length; `None` for that of the route.
    pub prefix_len: Option<u8>,
    /// Interface, without the number of an alias; `None` for that of the route.
    pub interface: Option<String>,
    /// Label of the address, where the interface was given as an alias (`eth0:1`).
    pub label: Option<String>,
    /// Broadcast address; `None` for the last of the network.
    pub broadcast: Option<Ipv4Addr>,
}

impl Group {
    /// What it is called: its first resource.
    pub fn key(&self) -> &str {
        self.resources.first().map_or("", |first| &first.text)
    }

    /// Its addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.resources.iter().filter_map(|r| match &r.kind {
            Kind::Address(address) => Some(address),
            Kind::Ldirectord(_) | Kind::Script => None,
        })
    }
}

/// Reads a file.
pub fn read(text: &str) -> (HaResources, Vec<Problem>) {
    let mut file = HaResources::default();
    let mut problems = Vec::new();
    for line in logical_lines(text) {
        let [node, resources @ ..] = &line[..] else {
            continue;
        };
        if resources.is_empty() {
            problems.push(Problem::error(
                node,
                format!("{}: expected resources after the node's name", node.text),
            ));
            continue;
        }
        let read = resources.iter().map(resource);
        let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
        problems.extend(bad.into_iter().filter_map(Result::err));
        let group = Group {
            line: node.line,
            node: node.text.to_ascii_lowercase(),
            resources: good.into_iter().flatten().collect(),
        };
        if group.resources.is_empty() {
            continue;
        }
        if let Some(other) = file.groups.iter().find(|other| other.key() == group.key()) {
            let text = format!(
                "{}: already the first resource of line {}, by which a group is known",
                group.key(),
                other.line
            );
            problems.push(Problem::error(&resources[0], text));
            continue;
        }
        file.groups.push(group);
    }
    (file, problems)
}

/// Lines with those that a `\` at the end joins to them.
fn logical_lines(text: &str) -> Vec<Vec<Word<'_>>> {
    let mut lines = Vec::new();
    let mut open: Vec<Word<'_>> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or_default().trim_end();
        let (code, goes_on) = match code.strip_suffix('\\') {
            Some(code) => (code, true),
            None => (code, false),
        };
        open.extend(words(code, n + 1));
        if !goes_on {
            lines.push(std::mem::take(&mut open));
        }
    }
    lines.push(open);
    lines
}

fn resource(word: &Word<'_>) -> Result<Resource, Problem> {
    let mut parts = word.text.split("::");
    let first = parts.next().unwrap_or_default();
    let args: Vec<_> = parts.map(str::to_owned).collect();
    let built = |script: &str, args: Vec<String>, kind| Resource {
        text: word.text.to_owned(),
        script: script.to_owned(),
        args,
        kind,
    };
    // A bare address, also one with prefix and interface behind it.
    let bare = first.split('/').next().unwrap_or_default();
    if args.is_empty() && bare.parse::<Ipv4Addr>().is_ok() {
        let address = address(word, first)?;
        return Ok(built(
            "IPaddr",
            vec![first.to_owned()],
            Kind::Address(address),
        ));
    }
    let kind = match first {
        "IPaddr" | "IPaddr2" => {
            let [text] = &args[..] else {
                return Err(Problem::error(
                    word,
                    format!("{first}: expected ::ADDRESS[/PREFIX[/INTERFACE][/BROADCAST]]"),
                ));
            };
            Kind::Address(address(word, text)?)
        }
        "IPv6addr" => {
            // The address is full of what separates arguments elsewhere.
            let text = word.text.strip_prefix("IPv6addr::").unwrap_or_default();
            let address = address(word, text)?;
            return Ok(built(first, vec![text.to_owned()], Kind::Address(address)));
        }
        "ldirectord" => {
            let file = args.first().map_or("ldirectord.cf", String::as_str);
            Kind::Ldirectord(file.to_owned())
        }
        _ if is_script_name(first) => Kind::Script,
        _ => {
            let text = format!("{first}: expected an address or the name of a script");
            return Err(Problem::error(word, text));
        }
    };
    Ok(built(first, args, kind))
}

/// A file's name, and not a path: it is looked for in two directories only.
fn is_script_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && !name.starts_with('.')
}

/// `ADDRESS[/PREFIX[/INTERFACE][/BROADCAST]]`.
fn address(word: &Word<'_>, text: &str) -> Result<Address, Problem> {
    let wrong =
        |part: &str, expected: &str| Problem::error(word, format!("{part}: expected {expected}"));
    let mut parts = text.split('/');
    let first = parts.next().unwrap_or_default();
    let addr: IpAddr = first.parse().map_err(|_| wrong(first, "an address"))?;
    let longest = if addr.is_ipv4() { 32 } else { 128 };
    let mut address = Address {
        addr,
        prefix_len: None,
        interface: None,
        label: None,
        broadcast: None,
    };
    if let Some(part) = parts.next() {
        let number = part.parse().ok().filter(|n| (1..=longest).contains(n));
        let mask = || part.parse().ok().and_then(prefix_of_mask);
        let prefix = number.or_else(mask).ok_or_else(|| {
            wrong(
                part,
                &format!("a prefix length from 1 to {longest}, or a netmask"),
            )
        })?;
        address.prefix_len = Some(prefix);
    }
    for part in parts {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            let broadcast = part
                .parse()
                .map_err(|_| wrong(part, "a broadcast address"))?;
            address.broadcast = Some(broadcast);
        } else if address.interface.is_none() && !part.is_empty() {
            let (name, alias) = part.split_once(':').unwrap_or((part, ""));
            if name.is_empty() || part.len() > 15 {
                return Err(wrong(part, "an interface, of at most 15 characters"));
            }
            address.interface = Some(name.to_owned());
            address.label = (!alias.is_empty()).then(|| part.to_owned());
        } else {
            return Err(wrong(
                part,
                "an interface or a broadcast address, each once",
            ));
        }
    }
    Ok(address)
}

/// The prefix length of a netmask without holes.
fn prefix_of_mask(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let len = bits.leading_ones();
    (len > 0 && bits.checked_shl(len).unwrap_or(0) == 0).then_some(len as u8)
}
