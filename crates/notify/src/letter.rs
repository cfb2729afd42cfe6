use std::time::SystemTime;

use jiff::Zoned;
use jiff::tz::TimeZone;
use pointsman_model::Mail;

/// keepalived's bounds of a subject and of a body, in bytes.
const SUBJECT_BYTES: usize = 255;
const BODY_BYTES: usize = 511;

/// A mail before it has its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Subject, one line.
    pub subject: String,
    /// Text.
    pub body: String,
    /// How it leaves, where not by the site's own way.
    pub mail: Option<Mail>,
}

impl Letter {
    /// A mail by the site's own way, cut as keepalived cuts it.
    pub fn new(subject: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            subject: cut(subject.into(), SUBJECT_BYTES),
            body: cut(body.into(), BODY_BYTES),
            mail: None,
        }
    }

    /// Headers in keepalived's order, an empty line, the text; lines end in CRLF. Nothing from
    /// outside can add a header: line ends in a header become blanks.
    pub(crate) fn text(&self, mail: &Mail, now: SystemTime) -> String {
        let line = |text: &str| text.replace(['\r', '\n'], " ");
        let to: Vec<_> = mail.to.iter().map(|to| line(to)).collect();
        let mut text = format!(
            "Date: {}\r\nFrom: {}\r\nSubject: {}\r\nX-Mailer: Pointsman\r\nTo: {}\r\n\r\n",
            date(now),
            line(&mail.from),
            line(&self.subject),
            to.join(",\r\n "),
        );
        for line in self.body.lines() {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text
    }
}

/// `Sat, 21 Nov 2026 01:57:48 +0000`, in the local zone.
fn date(now: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let zoned: Zoned = timestamp.to_zoned(TimeZone::system());
    zoned.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_model::MailTls;
    use std::time::Duration;

    #[test]
    fn a_letter_has_its_headers_in_order_and_no_others() {
        let mail = Mail {
            server: None,
            port: 25,
            tls: MailTls::Off,
            helo: None,
            from: "lb <lb@example.org>".into(),
            to: vec!["a@example.org".into(), "b@example.org".into()],
            timeout: Duration::from_secs(30),
        };
        let letter = Letter::new("one\r\nBcc: all@example.org", "first\nsecond");
        let text = letter.text(&mail, SystemTime::UNIX_EPOCH);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let lines: Vec<_> = head.split("\r\n").collect();
        assert!(lines[0].starts_with("Date: Thu, 01 Jan 1970 ") || lines[0].contains("Dec 1969"));
        assert_eq!(
            lines[1..],
            [
                "From: lb <lb@example.org>",
                "Subject: one  Bcc: all@example.org",
                "X-Mailer: Pointsman",
                "To: a@example.org,",
                " b@example.org",
            ]
        );
        assert_eq!(body, "first\r\nsecond\r\n");
    }

    #[test]
    fn a_long_letter_is_cut_between_characters() {
        let letter = Letter::new("ä".repeat(200), "x".repeat(600));
        assert_eq!((letter.subject.len(), letter.body.len()), (254, 511));
    }
}
