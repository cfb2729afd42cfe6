//! Routing rules: `virtual_rules` and `static_rules`, in iproute2's words.

use ipnet::IpNet;
use pointsman_model::Family;
use pointsman_model::vrrp::{Rule, RuleAction};

use super::keyword::{Args, EntryWords, Reader};
use super::lex::Word;
use super::names::Numbers;
use super::tree::Statement;
use crate::diag::{Severity, nearest};

/// Options of a rule, for hints and the documentation.
pub const OPTIONS: &[(&str, &str)] = &[
    ("not", ""),
    ("from", "PREFIX|all"),
    ("to", "PREFIX|all"),
    ("table", "N|NAME"),
    ("lookup", "N|NAME"),
    ("preference", "N"),
    ("order", "N"),
    ("priority", "N"),
    ("tos", "N"),
    ("dsfield", "N"),
    ("fwmark", "N[/MASK]"),
    ("realms", "[FROM/]TO"),
    ("suppress_prefixlength", "N"),
    ("sup_pl", "N"),
    ("suppress_ifgroup", "GROUP"),
    ("sup_group", "GROUP"),
    ("iif", "IF"),
    ("dev", "IF"),
    ("oif", "IF"),
    ("tunnel-id", "N"),
    ("uidrange", "A-B"),
    ("l3mdev", ""),
    ("protocol", "N|NAME"),
    ("ipproto", "N|NAME"),
    ("sport", "A[-B]"),
    ("dport", "A[-B]"),
    ("type", "blackhole|unreachable|prohibit|unicast"),
    ("goto", "N"),
    ("nop", ""),
    ("blackhole", ""),
    ("unreachable", ""),
    ("prohibit", ""),
    ("inet", ""),
    ("inet6", ""),
    ("no_track", ""),
    ("track_group", "NAME"),
];

/// Gives preferences to rules that have none, from 16384 downwards.
#[derive(Debug)]
pub struct Preferences(u32);

impl Default for Preferences {
    fn default() -> Self {
        Self(16384)
    }
}

/// A rule; `None` if it cannot be used.
pub fn read(
    reader: &mut Reader<'_>,
    entry: &Statement,
    preferences: &mut Preferences,
) -> Option<Rule> {
    let mut words = Args::of_entry(entry);
    let first = words.peek()?.clone();
    let mut rule = Rule::new(Family::V4, RuleAction::Nop);
    let mut action = None;
    let mut family = None;
    while let Some(word) = words.take() {
        if option(
            reader,
            &mut rule,
            &mut action,
            &mut family,
            word,
            &mut words,
        )
        .is_none()
        {
            reader.error(&first.at, "this rule is left out");
            return None;
        }
    }
    let of_prefix = rule.from.or(rule.to).map(|net| Family::from(net.addr()));
    let mixed = matches!((rule.from, rule.to), (Some(a), Some(b)) if a.addr().is_ipv4() != b.addr().is_ipv4());
    if mixed || matches!((family, of_prefix), (Some(a), Some(b)) if a != b) {
        reader.error(&first.at, "this rule mixes families, and is left out");
        return None;
    }
    rule.family = family.or(of_prefix).unwrap_or(Family::V4);
    let Some(action) = action else {
        reader.error(
            &first.at,
            "this rule has no table or other action, and is left out",
        );
        return None;
    };
    rule.action = action;
    if rule.preference.is_none() {
        let message = format!("this rule has no preference; {} is taken", preferences.0);
        reader.warn(&first.at, message);
        rule.preference = Some(preferences.0);
        preferences.0 = preferences.0.saturating_sub(1).max(1);
    }
    Some(rule)
}

fn option(
    reader: &mut Reader<'_>,
    rule: &mut Rule,
    action: &mut Option<RuleAction>,
    family: &mut Option<Family>,
    word: &Word,
    words: &mut EntryWords<'_>,
) -> Option<()> {
    const ACTIONS: &[(&str, Option<RuleAction>)] = &[
        ("blackhole", Some(RuleAction::Blackhole)),
        ("unreachable", Some(RuleAction::Unreachable)),
        ("prohibit", Some(RuleAction::Prohibit)),
        ("nop", Some(RuleAction::Nop)),
        ("unicast", None),
    ];
    match word.text.as_str() {
        "not" => rule.invert = true,
        "inet" => *family = Some(Family::V4),
        "inet6" => *family = Some(Family::V6),
        "from" => rule.from = prefix(reader, word, words)?,
        "to" => rule.to = prefix(reader, word, words)?,
        "table" | "lookup" => {
            let value = reader.value(words, word)?;
            *action = Some(RuleAction::Table(
                reader.routing_number(value, Numbers::Tables)?,
            ));
        }
        "goto" => {
            let value = reader.value(words, word)?;
            *action = Some(RuleAction::Goto(reader.unsigned(value)?));
        }
        "l3mdev" => *action = Some(RuleAction::L3mdev),
        "preference" | "order" | "priority" => {
            let value = reader.value(words, word)?;
            rule.preference = Some(reader.unsigned(value)?);
        }
        "tos" | "dsfield" => rule.tos = Some(reader.byte(words, word)?),
        "fwmark" => {
            let value = reader.value(words, word)?;
            let (mark, mask) = match value.text.split_once('/') {
                Some((mark, mask)) => (mark, Some(mask)),
                None => (value.text.as_str(), None),
            };
            let number = |text: &str| {
                let number = super::sequence::integer(text).ok()?;
                u32::try_from(number).ok()
            };
            match (number(mark), mask.map(number)) {
                (Some(mark), None) => rule.mark = Some((mark, None)),
                (Some(mark), Some(Some(mask))) => rule.mark = Some((mark, Some(mask))),
                _ => {
                    reader.error(&value.at, format!("`{}` is no mark", value.text));
                    return None;
                }
            }
        }
        "realms" => {
            let value = reader.value(words, word)?;
            rule.realms = Some(reader.realms(value)?);
        }
        "suppress_prefixlength" | "sup_pl" => {
            let value = reader.value(words, word)?;
            rule.suppress_prefix_length = Some(reader.number_of(value, 0..=128)? as u32);
        }
        "suppress_ifgroup" | "sup_group" => {
            let value = reader.value(words, word)?;
            let group = reader.routing_number(value, Numbers::Groups)?;
            rule.suppress_interface_group = Some(group);
        }
        "iif" | "dev" => rule.incoming = Some(reader.interface(words, word)?),
        "oif" => rule.outgoing = Some(reader.interface(words, word)?),
        "tunnel-id" => {
            let value = reader.value(words, word)?;
            rule.tunnel_id = Some(reader.number_of(value, 0..=i64::MAX)? as u64);
        }
        "uidrange" => {
            let value = reader.value(words, word)?;
            rule.users = Some(range(reader, value)?);
        }
        "protocol" => {
            let value = reader.value(words, word)?;
            rule.protocol = u8::try_from(reader.routing_number(value, Numbers::Protocols)?).ok();
        }
        "ipproto" => {
            let value = reader.value(words, word)?;
            let known = [
                ("icmp", 1),
                ("tcp", 6),
                ("udp", 17),
                ("icmpv6", 58),
                ("sctp", 132),
            ];
            let by_name = known
                .iter()
                .find(|(name, _)| *name == value.text)
                .map(|(_, n)| *n);
            rule.ip_protocol = Some(match by_name {
                Some(number) => number,
                None => reader.number_of(value, 0..=255)? as u8,
            });
        }
        "sport" | "dport" => {
            let value = reader.value(words, word)?;
            let (low, high) = range::<u16>(reader, value)?;
            if word.text == "sport" {
                rule.source_ports = Some((low, high));
            } else {
                rule.destination_ports = Some((low, high));
            }
        }
        "type" => {
            let value = reader.value(words, word)?;
            *action = reader.choice_of(value, ACTIONS)?.or(*action);
        }
        "no_track" => rule.no_track = true,
        "track_group" => rule.track_group = Some(reader.value(words, word)?.text.clone()),
        other => match ACTIONS.iter().find(|(name, _)| *name == other) {
            Some((_, found)) => *action = found.or(*action),
            None => {
                let near = nearest(other, OPTIONS.iter().map(|(name, _)| *name));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!("`{other}` is no option of a rule");
                reader.say(Severity::Error, word.at.clone(), message, hint);
                return None;
            }
        },
    }
    Some(())
}

fn prefix(
    reader: &mut Reader<'_>,
    word: &Word,
    words: &mut EntryWords<'_>,
) -> Option<Option<IpNet>> {
    let value = reader.value(words, word)?;
    match value.text.as_str() {
        "all" | "any" | "default" => Some(None),
        _ => super::address::net(reader, value).map(Some),
    }
}

fn range<N: std::str::FromStr + PartialOrd + Copy>(
    reader: &mut Reader<'_>,
    word: &Word,
) -> Option<(N, N)> {
    let (low, high) = word
        .text
        .split_once('-')
        .unwrap_or((&word.text, &word.text));
    match (low.parse::<N>(), high.parse::<N>()) {
        (Ok(low), Ok(high)) if low <= high => Some((low, high)),
        _ => {
            reader.error(
                &word.at,
                format!("`{}` is no number or range A-B", word.text),
            );
            None
        }
    }
}
