//! Reads the transcripts that `tests/oracle/ipvsadm.sh` writes; the format is described there.

use super::Said;

/// A step of a transcript.
pub enum Step {
    /// What the kernel held.
    Held { line: usize, text: String },
    /// A command and what came of it.
    Command {
        line: usize,
        words: Vec<String>,
        input: String,
        said: Said,
    },
}

/// The steps of a transcript in order.
pub fn steps(transcript: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for (number, line) in (1..).zip(transcript.lines()) {
        let (mark, rest) = line.split_at(1);
        // A backslash after the mark: the line had no line feed.
        let (text, end) = match rest.strip_prefix("\\ ") {
            Some(text) => (text, ""),
            None => (rest.strip_prefix(' ').unwrap_or(rest), "\n"),
        };
        match (mark, steps.last_mut()) {
            ("#" | "%", _) => {}
            ("@", _) => steps.push(Step::Held {
                line: number,
                text: text.to_owned(),
            }),
            ("$", _) => steps.push(Step::Command {
                line: number,
                words: shell_words(text),
                input: String::new(),
                said: Said::default(),
            }),
            ("<", Some(Step::Command { input, .. })) => {
                input.push_str(text);
                input.push('\n');
            }
            (">", Some(Step::Command { said, .. })) => said.stdout += &format!("{text}{end}"),
            ("!", Some(Step::Command { said, .. })) => said.stderr += &format!("{text}{end}"),
            ("=", Some(Step::Command { said, .. })) => {
                said.status = text.parse().expect("an exit status");
            }
            _ => panic!("line {number} of the transcript: {line}"),
        }
    }
    steps
}

/// Splits a command as the shell does, as far as the lists use it: blanks and both quotes.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
