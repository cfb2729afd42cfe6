//! What a server answered, piece by piece, and whether it is what was wanted. Pure, and bounded.

use md5::{Digest, Md5};
use pointsman_model::check::StatusRange;

use super::pattern::BodyPattern;

/// Longest head that is read, bytes.
const HEAD_BYTES: usize = 64 << 10;
/// Longest body that is read, bytes.
const BODY_BYTES: usize = 16 << 20;
/// Longest body that a pattern is looked for in: it has to be kept.
const KEPT_BYTES: usize = 1 << 20;

/// What the answer to one url must be.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) status: Vec<StatusRange>,
    pub(super) digest: Option<[u8; 16]>,
    pub(super) pattern: Option<BodyPattern>,
}

impl Wanted {
    /// An answer that nothing has come of yet.
    pub(super) fn reply(&self) -> Reply {
        Reply {
            head: Vec::new(),
            in_body: false,
            status: None,
            length: 0,
            digest: self.digest.is_some().then(Md5::new),
            kept: self.pattern.is_some().then(Vec::new),
        }
    }

    /// The status of a good answer, or what is wrong: status, then digest, then pattern.
    pub(super) fn judge(&self, reply: Reply) -> Result<u16, String> {
        if reply.head.is_empty() && !reply.in_body {
            return Err("connection closed without an answer".into());
        }
        let status = reply
            .status
            .or_else(|| status(&reply.head))
            .ok_or("the answer has no HTTP status")?;
        if !self.status.iter().any(|range| range.contains(status)) {
            return Err(format!("status {status}"));
        }
        if let (Some(wanted), Some(got)) = (self.digest, reply.digest) {
            let got: [u8; 16] = got.finalize().into();
            if got != wanted {
                return Err(format!("digest {} instead of {}", hex(got), hex(wanted)));
            }
        }
        if let (Some(pattern), Some(body)) = (&self.pattern, &reply.kept) {
            pattern.judge(body)?;
        }
        Ok(status)
    }
}

/// An answer so far.
pub struct Reply {
    head: Vec<u8>,
    in_body: bool,
    status: Option<u16>,
    length: usize,
    digest: Option<Md5>,
    kept: Option<Vec<u8>>,
}

impl Reply {
    /// An answer whose status and body are told apart already (HTTP/2).
    pub(super) fn begin_body(&mut self, status: u16) {
        self.status = Some(status);
        self.in_body = true;
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.in_body {
            return self.body(bytes);
        }
        let from = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes);
        match head_end(&self.head[from..]) {
            Some(end) => {
                let rest = self.head.split_off(from + end);
                self.in_body = true;
                self.status = status(&self.head);
                self.body(&rest)
            }
            None if self.head.len() > HEAD_BYTES => Err(format!(
                "the head of the answer is longer than {HEAD_BYTES} bytes"
            )),
            None => Ok(()),
        }
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.length += bytes.len();
        if self.length > BODY_BYTES {
            return Err(format!("the body is longer than {BODY_BYTES} bytes"));
        }
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        if let Some(kept) = &mut self.kept {
            if kept.len() + bytes.len() > KEPT_BYTES {
                return Err(format!(
                    "the body is longer than {KEPT_BYTES} bytes, too long to look for a pattern"
                ));
            }
            kept.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// How many bytes lead up to the body: the first empty line and what is before it.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let lf = bytes.windows(2).position(|window| window == b"\n\n");
    match (crlf.map(|at| at + 4), lf.map(|at| at + 2)) {
        (Some(crlf), Some(lf)) => Some(crlf.min(lf)),
        (crlf, lf) => crlf.or(lf),
    }
}

/// The status of a head: three digits after `HTTP/x.y `, and a blank or the line's end after them.
/// keepalived wants the blank; a status line without reason has none, and is a status line (RFC 9112 §4).
pub fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let rest = line.strip_prefix(b"HTTP/")?;
    let mut words = rest.splitn(3, |byte| *byte == b' ');
    let version = words.next()?;
    let dotted = matches!(version, [major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    let digits = words.next().filter(|_| dotted)?;
    match digits {
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => Some(
            digits
                .iter()
                .fold(0, |status, digit| status * 10 + u16::from(digit - b'0')),
        ),
        _ => None,
    }
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Judges a whole answer given in pieces, for tests and fuzzing.
///
/// # Errors
/// What is wrong with it.
pub fn judge(pieces: &[&[u8]], url: &pointsman_model::check::HttpUrl) -> Result<u16, String> {
    let wanted = Wanted {
        status: url.status.clone(),
        digest: url.digest,
        pattern: url
            .regex
            .as_ref()
            .map(BodyPattern::new)
            .transpose()
            .map_err(|error| error.to_string())?,
    };
    let mut reply = wanted.reply();
    for piece in pieces {
        reply.push(piece)?;
    }
    wanted.judge(reply)
}

#[cfg(test)]
mod tests {
    use pointsman_model::check::{HttpUrl, RegexCheck};

    use super::*;

    fn url() -> HttpUrl {
        HttpUrl {
            path: "/".into(),
            host: None,
            digest: None,
            status: vec![StatusRange::SUCCESS],
            regex: None,
            tls_compliant: false,
        }
    }

    #[test]
    fn a_status_is_three_digits_after_the_version() {
        for (head, wanted) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
            (b"HTTP/1.0 404 Not Found", Some(404)),
            (b"HTTP/1.1 200\r\n", Some(200)),
            (b"HTTP/1.1 200 \r\n", Some(200)),
            (b"HTTP/1.1 20 OK", None),
            (b"HTTP/1.1 2000 OK", None),
            (b"HTTP/1.1 099 OK", None),
            (b"HTTP/11 200 OK", None),
            (b"http/1.1 200 OK", None),
            (b"ICY 200 OK", None),
            (b"\r\nHTTP/1.1 200 OK", None),
            (b"", None),
        ] {
            assert_eq!(status(head), wanted, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn the_digest_is_of_the_body_however_it_comes() {
        let mut url = url();
        // md5("hello\n")
        url.digest = Some(0xb194_6ac9_2492_d234_7c62_35b4_d261_1184_u128.to_be_bytes());
        let answer = b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello\n";
        for cut in 0..answer.len() {
            let (a, b) = answer.split_at(cut);
            assert_eq!(judge(&[a, b], &url), Ok(200), "cut at {cut}");
        }
        let reason = judge(&[b"HTTP/1.0 200 OK\n\nhellO\n"], &url).unwrap_err();
        assert!(
            reason.ends_with("instead of b1946ac92492d2347c6235b4d2611184"),
            "{reason}"
        );
    }

    #[test]
    fn status_comes_before_digest_and_pattern() {
        let mut url = url();
        url.status = vec![
            StatusRange {
                first: 301,
                last: 302,
            },
            StatusRange {
                first: 404,
                last: 404,
            },
        ];
        url.regex = Some(RegexCheck {
            pattern: "gone".into(),
            options: Vec::new(),
            negate: false,
            min_offset: 0,
            max_offset: None,
        });
        for (answer, wanted) in [
            (&b"HTTP/1.1 404 x\r\n\r\nit is gone"[..], Ok(404)),
            (
                b"HTTP/1.1 302 x\r\n\r\n",
                Err("the body does not match /gone/".to_owned()),
            ),
            (b"HTTP/1.1 200 x\r\n\r\ngone", Err("status 200".to_owned())),
            (b"", Err("connection closed without an answer".to_owned())),
            (b"garbage", Err("the answer has no HTTP status".to_owned())),
        ] {
            assert_eq!(judge(&[answer], &url), wanted);
        }
    }

    #[test]
    fn endless_answers_end() {
        let wanted = Wanted {
            status: vec![StatusRange::SUCCESS],
            digest: None,
            pattern: None,
        };
        for begin in [
            &b"HTTP/1.1 200 OK\r\nX: "[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"xxx",
        ] {
            let mut reply = wanted.reply();
            reply.push(begin).unwrap();
            let piece = [b'x'; 4096];
            let ended = (0..BODY_BYTES / 4096 + 2).find_map(|_| reply.push(&piece).err());
            assert!(ended.is_some());
            assert!(reply.head.len() <= HEAD_BYTES + 4096);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_verdict_does_not_depend_on_how_the_bytes_were_cut(
            head in "(HTTP/1.[01] [0-9]{2,4}( OK)?\r?\n)?([A-Z]: x\r?\n){0,3}\r?\n?",
            body in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            cut in 0..100_usize,
        ) {
            let mut url = url();
            url.regex = Some(RegexCheck {
                pattern: "[a-z]".into(),
                options: Vec::new(),
                negate: false,
                min_offset: 1,
                max_offset: None,
            });
            let answer = [head.as_bytes(), &body].concat();
            let whole = judge(&[&answer], &url);
            let (a, b) = answer.split_at(cut.min(answer.len()));
            proptest::prop_assert_eq!(&judge(&[a, b], &url), &whole);
            let single: Vec<_> = answer.chunks(1).collect();
            proptest::prop_assert_eq!(&judge(&single, &url), &whole);
        }
    }
}
