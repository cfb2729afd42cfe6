//! Values, found in a line as the original's patterns find them.

use pointsman_model::{Family, Protocol};

use super::problem::Fault;
use super::{Reader, lex::is_blank};

/// Exactly `yes` or `no`: a blank behind it is already wrong.
pub(super) fn yes_or_no(value: &str, key: &str) -> Result<bool, Fault> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => {
            let expected = if value.trim().len() < value.len() {
                "yes or no with nothing behind it, not even a blank"
            } else {
                "yes or no"
            };
            Err(Fault::new(format!("{key} must be 'yes' or 'no'"), expected))
        }
    }
}

/// The first run of digits anywhere in the value.
pub(super) fn digits(value: &str) -> Option<&str> {
    run(value, |c| c.is_ascii_digit())
}

/// The first run of characters that belong.
pub(super) fn run(value: &str, belongs: impl Fn(char) -> bool) -> Option<&str> {
    let start = value.find(&belongs)?;
    let rest = &value[start..];
    let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The first word of letters, digits and underscores.
pub(super) fn word(value: &str) -> Option<&str> {
    run(value, is_word)
}

pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A number, found anywhere; `complaint` when there is none.
pub(super) fn number(value: &str, complaint: &str) -> Result<u32, Fault> {
    let digits = digits(value).ok_or_else(|| Fault::new(complaint, "a number"))?;
    digits
        .parse()
        .map_err(|_| Fault::new(complaint, "a number of at most 4294967295").about(digits))
}

/// A number other than zero.
pub(super) fn positive(value: &str, complaint: &str) -> Result<u32, Fault> {
    match number(value, complaint)? {
        0 => Err(Fault::new(complaint, "a number above 0")),
        number => Ok(number),
    }
}

/// Anything but nothing.
pub(super) fn some_text(value: &str, complaint: &str) -> Result<String, Fault> {
    match value {
        "" => Err(Fault::new(complaint, "some text")),
        text => Ok(text.to_owned()),
    }
}

/// What stands between the first quote, which begins the value, and the last of the line.
pub(super) fn quoted(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"')?;
    inner.rfind('"').map(|end| &inner[..end])
}

/// As [`quoted`], else all of it.
pub(super) fn maybe_quoted(value: &str) -> &str {
    quoted(value).unwrap_or(value)
}

/// The characters of a service name or a port number.
pub(super) fn is_port(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// `HOST:PORT` at its last colon, if what follows can be a port.
pub(super) fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.chars().all(is_port) => (host, Some(port)),
        _ => (text, None),
    }
}

/// One word, with blanks around it removed.
pub(super) fn not_blank(value: &str) -> Option<&str> {
    run(value, |c| !is_blank(c))
}

impl Reader<'_> {
    /// A literal, in brackets or not, or a name.
    pub(super) fn host(&self, name: &str, family: Family) -> Option<std::net::IpAddr> {
        let name = match (name.find('['), name.rfind(']')) {
            (Some(open), Some(close)) if open < close => &name[open + 1..close],
            _ => name,
        };
        match (family, name.parse().ok()) {
            (Family::V4, Some(addr @ std::net::IpAddr::V4(_)))
            | (Family::V6, Some(addr @ std::net::IpAddr::V6(_))) => Some(addr),
            (_, Some(_)) => None,
            _ if name.is_empty() => None,
            _ => self.surroundings.host_addr(name, family),
        }
    }

    /// A number up to 65535, or a name.
    pub(super) fn port(&self, name: &str, protocol: Option<Protocol>) -> Option<u16> {
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse().ok();
        }
        self.surroundings.service_port(name, protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_searched_for() {
        assert_eq!(number("5 # five", "no"), Ok(5));
        assert_eq!(number("about 7s", "no"), Ok(7));
        assert!(number("none", "no").is_err());
        assert!(number("99999999999", "no").is_err());
        assert!(positive("0", "no").is_err());
    }

    #[test]
    fn quotes_reach_to_the_last_one() {
        assert_eq!(quoted(r#""a" b "c" d"#), Some(r#"a" b "c"#));
        assert_eq!(quoted(r#""""#), Some(""));
        assert_eq!(quoted(r#"""#), None);
        assert_eq!(quoted("a"), None);
    }

    #[test]
    fn hosts_and_ports() {
        for (text, expected) in [
            ("10.0.0.1:80", ("10.0.0.1", Some("80"))),
            ("[::1]:80", ("[::1]", Some("80"))),
            ("[::1]", ("[::1]", None)),
            ("host", ("host", None)),
            ("host:", ("host:", None)),
        ] {
            assert_eq!(host_and_port(text), expected);
        }
    }
}
