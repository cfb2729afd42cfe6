//! Talking in lines: what FTP, SMTP, POP3, IMAP and SIP over TCP have in common.

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy, sink,
};
use tokio::time::{Duration, timeout};

use super::Failure;

/// Longest line that is read, in bytes. RFC 5321 §4.5.3.1 allows 512, RFC 9051 §4 leaves it open.
const LINE: usize = 8 * 1024;
/// Most bytes read in one conversation.
const ALL: usize = 64 * 1024;
/// How long a server may take to say goodbye; nothing depends on it.
const FAREWELL: Duration = Duration::from_millis(200);

/// A conversation in lines.
pub(in crate::check) struct Lines<S> {
    stream: BufReader<S>,
    left: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    pub(in crate::check) fn new(stream: S) -> Self {
        Self {
            stream: BufReader::with_capacity(1024, stream),
            left: ALL,
        }
    }

    /// The next line, without its end. `awaited` says what it should have been, for messages.
    ///
    /// # Errors
    /// When the connection ends before the line does, or the line is too long.
    pub(in crate::check) async fn line(
        &mut self,
        awaited: &'static str,
    ) -> Result<String, Failure> {
        let limit = LINE.min(self.left);
        let mut line = Vec::new();
        (&mut self.stream)
            .take(limit as u64)
            .read_until(b'\n', &mut line)
            .await?;
        self.left -= line.len();
        if line.pop_if(|last| *last == b'\n').is_none() {
            return Err(match line.len() {
                length if length == limit => Failure::TooLong(limit),
                0 => Failure::Closed(awaited),
                _ => Failure::garbage(awaited, line),
            });
        }
        line.pop_if(|last| *last == b'\r');
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends `text`, which brings its own line ends.
    pub(in crate::check) async fn send(&mut self, text: &str) -> Result<(), Failure> {
        self.stream.write_all(text.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Says goodbye and lets the server hang up first, so that its log has no broken connection.
    /// The verdict is there already: nothing that happens now changes it.
    pub(super) async fn farewell(mut self, text: &str) {
        if self.send(text).await.is_ok() {
            let mut rest = self.stream.take(ALL as u64);
            let _ = timeout(FAREWELL, copy(&mut rest, &mut sink())).await;
        }
    }
}

/// Refuses words that would end a line and smuggle a second command in.
///
/// # Errors
/// [`Failure::Unusable`] with `why` when one of `words` holds a control character.
pub(in crate::check) fn on_one_line<const N: usize>(
    words: [&str; N],
    why: &'static str,
) -> Result<(), Failure> {
    match words.iter().any(|word| word.contains(char::is_control)) {
        true => Err(Failure::Unusable(why)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(bytes: &[u8]) -> Vec<Result<String, Failure>> {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(bytes).await.unwrap();
        drop(far);
        let mut lines = Lines::new(near);
        let mut read = Vec::new();
        loop {
            read.push(lines.line("a line").await);
            if read.last().is_some_and(Result::is_err) {
                return read;
            }
        }
    }

    #[tokio::test]
    async fn lines_end_with_or_without_carriage_return() {
        let read = lines_of(b"one\r\ntwo\n\n\xff\n").await;
        let texts: Vec<_> = read.iter().flatten().map(String::as_str).collect();
        assert_eq!(texts, ["one", "two", "", "\u{fffd}"]);
        assert!(matches!(read.last(), Some(Err(Failure::Closed("a line")))));
    }

    #[tokio::test]
    async fn half_a_line_is_no_line() {
        let read = lines_of(b"220 hal").await;
        assert!(matches!(read[..], [Err(Failure::Garbage { .. })]));
    }

    #[tokio::test]
    async fn endless_lines_and_endless_talk_end() {
        let read = lines_of(&[b'x'; 100_000]).await;
        assert!(matches!(read[..], [Err(Failure::TooLong(LINE))]));
        let read = lines_of(&b"220-more\n".repeat(20_000)).await;
        assert!(matches!(read.last(), Some(Err(Failure::TooLong(_)))));
        assert!(read.len() <= ALL / 9 + 1);
    }

    #[test]
    fn a_login_cannot_carry_a_command() {
        assert!(on_one_line(["user", "pass word"], "no").is_ok());
        for word in ["a\r\nDELE 1", "a\nb", "a\0"] {
            assert!(on_one_line([word], "no").is_err());
        }
    }
}
