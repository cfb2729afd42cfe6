//! Replies that begin with three digits: FTP (RFC 959 §4.2) and SMTP (RFC 5321 §4.2).

use tokio::io::{AsyncRead, AsyncWrite};

use super::Failure;
use super::lines::Lines;

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 100 to 599.
    pub code: u16,
    /// The text of its last line, without the code.
    pub text: String,
}

impl Reply {
    /// 2xx: done.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: go on.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// As it would stand in one line.
    pub fn line(&self) -> String {
        format!("{} {}", self.code, self.text)
    }
}

/// Takes a reply line by line.
///
/// The first line's code stands before a `-` when more lines follow; the last one is that with the
/// same code before a blank. What lies between is not looked at, as RFC 959 wants it.
#[derive(Debug, Default)]
pub struct Collector {
    code: Option<u16>,
}

/// A line that no reply begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAReply;

impl Collector {
    /// Takes the next line; gives the reply when this was its last.
    ///
    /// # Errors
    /// When the reply's first line does not begin with a code of 100 to 599.
    pub fn push(&mut self, line: &str) -> Result<Option<Reply>, NotAReply> {
        let Some((code, more, text)) = split(line) else {
            return self.code.map(|_| None).ok_or(NotAReply);
        };
        if *self.code.get_or_insert(code) != code || more {
            return Ok(None);
        }
        self.code = None;
        Ok(Some(Reply {
            code,
            text: text.to_owned(),
        }))
    }
}

/// Code, whether more lines follow, text.
fn split(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let code = code.parse().ok().filter(|code| (100..600).contains(code))?;
    match rest.as_bytes().first() {
        None => Some((code, false, "")),
        Some(b' ') => Some((code, false, &rest[1..])),
        Some(b'-') => Some((code, true, &rest[1..])),
        Some(_) => None,
    }
}

/// Reads a whole reply.
pub(in crate::check) async fn reply<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
    awaited: &'static str,
) -> Result<Reply, Failure> {
    let mut collector = Collector::default();
    loop {
        let line = lines.line(awaited).await?;
        match collector.push(&line) {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => {}
            Err(NotAReply) => return Err(Failure::garbage(awaited, line)),
        }
    }
}

/// Sends a command and wants a positive reply.
pub(super) async fn command<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
    command: &str,
    doing: &'static str,
) -> Result<Reply, Failure> {
    lines.send(command).await?;
    positive(reply(lines, doing).await?, doing)
}

/// Passes a positive reply on.
pub(super) fn positive(reply: Reply, doing: &'static str) -> Result<Reply, Failure> {
    match reply.is_positive() {
        true => Ok(reply),
        false => Err(Failure::refused(doing, reply.line())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply_of(lines: &[&str]) -> Result<Option<Reply>, NotAReply> {
        let mut collector = Collector::default();
        let mut last = Ok(None);
        for line in lines {
            last = collector.push(line);
        }
        last
    }

    #[test]
    fn a_reply_ends_with_its_code_and_a_blank() {
        for (lines, code, text) in [
            (&["220 ready"][..], 220, "ready"),
            (&["220"], 220, ""),
            (&["250-one", "250-two", "250 three"], 250, "three"),
            (
                &[
                    "220-a banner",
                    " with free text",
                    "230 of other codes",
                    "220 end",
                ],
                220,
                "end",
            ),
        ] {
            let reply = reply_of(lines).unwrap().unwrap();
            assert_eq!((reply.code, &*reply.text), (code, text));
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for line in [
            "", "22", "hello", "2200 x", "099 x", "999 x", "+20 x", "22é", "220_x",
        ] {
            assert_eq!(reply_of(&[line]), Err(NotAReply), "{line}");
        }
        assert_eq!(reply_of(&["220-more"]), Ok(None));
    }
}
