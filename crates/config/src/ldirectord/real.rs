//! `real = HOST[->HOST][:PORT] METHOD [WEIGHT] ["REQUEST", "RECEIVE"] [l:N] [u:N]`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use regex::Regex;

use pointsman_model::{Family, Forwarding, ServerKey, Weight};

use super::config::Real;
use super::fallback::forwarding;
use super::lex::Line;
use super::problem::Fault;
use super::{Reader, value};

/// Addresses that one range may stand for: as many as IPVS could be given with good sense.
const LONGEST_RANGE: u32 = 65_536;

/// Hosts, port and the rest. The original searches for it anywhere in the value.
static SERVER: LazyLock<Regex> = LazyLock::new(|| {
    let host = r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]";
    pattern(&format!(
        r"(?<first>{host})(?:->(?<last>{host}))?(?::(?<port>[A-Za-z0-9_-]+))?[ \t\r]+(?<rest>.*)"
    ))
});
/// An address, two colons and a port: the original finds a host named `5060` there.
static DOUBLE_COLON: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[A-Za-z0-9.-]+)::([0-9]+[ \t])"));
static QUESTION: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[ \t]+"(.*)"[, ][ \t]*"(.*)"(.*)"#));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

/// What follows the address.
struct Options {
    forwarding: Forwarding,
    weight: Weight,
    question: Option<(String, String)>,
    lower: u32,
    upper: u32,
}

impl Reader<'_> {
    /// The servers of a line. Nothing where something is wrong with it.
    pub(super) fn reals(&mut self, line: Line<'_>, value: &str, family: Family) -> Vec<Real> {
        let mended = DOUBLE_COLON.replace(value, "$1:$2");
        if mended != value {
            self.warn(
                line,
                "two colons between address and port, taken for one \
                 (ldirectord itself takes the port for a host's name)",
            );
        }
        let result = self.try_reals(line, &mended, family);
        self.note(line, result).unwrap_or_default()
    }

    fn try_reals(
        &mut self,
        line: Line<'_>,
        value: &str,
        family: Family,
    ) -> Result<Vec<Real>, Fault> {
        let parts = SERVER.captures(value).ok_or_else(|| {
            Fault::new(
                "invalid address for real server (wrong format)",
                "ADDRESS[->ADDRESS][:PORT] gate|masq|ipip",
            )
        })?;
        if parts.get(0).is_some_and(|found| found.start() > 0) {
            self.warn(line, "text before the real server's address is ignored");
        }
        let first = &parts["first"];
        let start = self.host(first, family).ok_or_else(|| {
            Fault::new(
                format!("invalid address ({first}) for real server (could not resolve host)"),
                "",
            )
            .about(first)
        })?;
        let port = parts.name("port").map_or("0", |port| port.as_str());
        let port = self.port(port, None).ok_or_else(|| {
            Fault::new(
                format!("invalid port ({port}) for real server (could not resolve port)"),
                "a port up to 65535, or its name",
            )
            .about(port)
        })?;
        let addrs = match parts.name("last") {
            None => vec![start],
            Some(last) => {
                let last = last.as_str();
                let end = self.host(last, family).ok_or_else(|| {
                    Fault::new(
                        format!(
                            "invalid address ({last}) for real server (could not resolve end host)"
                        ),
                        "",
                    )
                    .about(last)
                })?;
                range(start, end)?
            }
        };
        let options = options(&parts["rest"])?;
        let real = |addr| Real {
            line: line.number,
            key: ServerKey { addr, port },
            forwarding: options.forwarding,
            weight: options.weight,
            question: options.question.clone(),
            lower_threshold: options.lower,
            upper_threshold: options.upper,
        };
        Ok(addrs.into_iter().map(real).collect())
    }
}

/// All addresses from one to the other.
fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, Fault> {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (first, last) else {
        return Err(Fault::new(
            "Address range for IPv6 is not supported yet",
            "a line for each server",
        ));
    };
    if first > last {
        // The original's words, which have it the wrong way round.
        return Err(Fault::new(
            format!(
                "Invalid Range: {first}-{last}: First value must be greater than or equal to the \
                 second value"
            ),
            "the lower address first",
        ));
    }
    let (first, last) = (u32::from(first), u32::from(last));
    if last - first >= LONGEST_RANGE {
        return Err(Fault::new(
            format!("Invalid Range: {} addresses", u64::from(last - first) + 1),
            "at most 65536",
        ));
    }
    Ok((first..=last)
        .map(|addr| Ipv4Addr::from(addr).into())
        .collect())
}

fn options(text: &str) -> Result<Options, Fault> {
    let method = value::word(text).unwrap_or_default();
    let forwarding = forwarding(method)?;
    let at = text.find(method).unwrap_or(0);
    let mut rest = &text[at + method.len()..];

    let mut weight = Weight::DEFAULT;
    // Before the first quote only: a number inside a request is no weight.
    let head = &rest[..rest.find('"').unwrap_or(rest.len())];
    if let Some((digits, end)) = after_blanks(head, |word| value::digits(word) == Some(word)) {
        let number = digits.parse().ok().and_then(Weight::new);
        weight = number.ok_or_else(|| {
            Fault::new(
                format!("Invalid real server line, around \"{}\"", rest),
                "a weight of at most 2147483647",
            )
            .about(digits)
        })?;
        rest = &rest[end..];
    }
    let mut question = None;
    if let Some(parts) = QUESTION.captures(rest) {
        question = Some((with_slash(&parts[1]), parts[2].to_owned()));
        rest = parts.get(3).map_or("", |tail| tail.as_str());
    }
    let (mut lower, mut upper) = (None, None);
    // In either order: where `u:` comes first, the original takes `l:` and forgets the other.
    while let Some((word, end)) = after_blanks(rest, |word| limit(word).is_some()) {
        let (slot, digits) = match limit(word) {
            Some(('l', digits)) => (&mut lower, digits),
            Some((_, digits)) => (&mut upper, digits),
            None => break,
        };
        if slot.is_some() {
            break;
        }
        *slot = Some(digits.parse().map_err(|_| {
            Fault::new(
                format!("Invalid real server line, around \"{rest}\""),
                "a threshold of at most 4294967295",
            )
            .about(word)
        })?);
        rest = &rest[end..];
    }
    if !rest.trim().is_empty() {
        return Err(Fault::new(
            format!("Invalid real server line, around \"{rest}\""),
            "METHOD [WEIGHT] [\"REQUEST\", \"RECEIVE\"] [l:N] [u:N]",
        )
        .about(rest.trim()));
    }
    Ok(Options {
        forwarding,
        weight,
        question,
        lower: lower.unwrap_or(0),
        upper: upper.unwrap_or(0),
    })
}

/// `l:N` or `u:N`: the letter and the number.
fn limit(word: &str) -> Option<(char, &str)> {
    let (letter, digits) = word.split_once(':')?;
    let letter = match letter {
        "l" => 'l',
        "u" => 'u',
        _ => return None,
    };
    (value::digits(digits) == Some(digits)).then_some((letter, digits))
}

/// The first word behind blanks, if it is of the kind; and where it ends.
fn after_blanks(text: &str, is_kind: impl Fn(&str) -> bool) -> Option<(&str, usize)> {
    let word = text.split_whitespace().next()?;
    let start = text.find(word)?;
    (start > 0 && is_kind(word)).then_some((word, start + word.len()))
}

/// Requests begin with a slash; checks that want none take it away again.
pub(super) fn with_slash(request: &str) -> String {
    if request.starts_with('/') {
        request.to_owned()
    } else {
        format!("/{request}")
    }
}
