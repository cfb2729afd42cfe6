//! From lines to statements and blocks, before any keyword is understood.

use std::sync::Arc;

use super::expand::Line;
use super::lex::{Text, Word, place, words};
use crate::diag::{Diagnostic, Diagnostics, Place, Severity, SourceLine};

/// Deepest nesting of blocks; keepalived's own keywords need five.
const DEEPEST: usize = 32;

/// A keyword with its words, and its block if it has one.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its words; never empty.
    pub words: Vec<Word>,
    /// The characters of all its words, for keywords that split them in their own way.
    pub text: Text,
    /// Where it stands.
    pub source: Arc<SourceLine>,
    /// What is between its braces.
    pub block: Option<Vec<Statement>>,
}

impl Statement {
    /// Its first word.
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }

    /// Place of its first word.
    pub fn at(&self) -> Place {
        match self.words.first() {
            Some(word) => word.at.clone(),
            None => Place::new(&self.source, 1, 1),
        }
    }

    /// Its words but the first.
    pub fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// What a keyword is within some block, as far as braces go.
pub trait Grammar: Copy {
    /// What is between the braces of `keyword`; `None` if it has no block, or nobody knows it.
    fn block(self, keyword: &str) -> Option<Self>;
}

/// Builds blocks. `grammar` says where a missing `{` is only forgotten; unknown keywords may have
/// blocks or not.
pub fn build<G: Grammar>(
    lines: &[Line],
    grammar: G,
    diagnostics: &mut Diagnostics,
) -> Vec<Statement> {
    let mut pieces: Vec<Piece> = lines.iter().flat_map(pieces).collect();
    pieces.reverse();
    let mut builder = Builder {
        pieces,
        diagnostics,
        depth: 0,
        unclosed: None,
    };
    let (statements, _) = builder.statements(Some(grammar));
    if let Some((at, count)) = builder.unclosed {
        let message = match count {
            1 => "this block is not closed".to_owned(),
            _ => format!("this block is not closed, nor are {} around it", count - 1),
        };
        let hint = "a `}` is missing at the end".to_owned();
        diagnostics.push(Diagnostic::new(Severity::Error, at, message).hint(hint));
    }
    statements
}

enum Piece {
    Open(Place),
    Close(Place),
    Words(Statement),
}

/// Splits a line at braces outside double quotes.
fn pieces(line: &Line) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let text = &line.text;
    for i in 0..=text.len() {
        let c = text.at(i);
        match c {
            Some('"') => quoted = !quoted,
            None | Some('{' | '}') if !quoted || c.is_none() => {
                let part = text.slice(start..i).trimmed();
                let found = words(&part, &line.source);
                if !found.is_empty() {
                    pieces.push(Piece::Words(Statement {
                        words: found,
                        text: part,
                        source: Arc::clone(&line.source),
                        block: None,
                    }));
                }
                let at = place(text, i..i + 1, &line.source);
                match c {
                    Some('{') => pieces.push(Piece::Open(at)),
                    Some('}') => pieces.push(Piece::Close(at)),
                    _ => {}
                }
                start = i + 1;
            }
            _ => {}
        }
    }
    pieces
}

struct Builder<'a> {
    /// What is still to come, the next one last.
    pieces: Vec<Piece>,
    diagnostics: &'a mut Diagnostics,
    depth: usize,
    /// The innermost block that the end of file found open, and how many were.
    unclosed: Option<(Place, usize)>,
}

impl Builder<'_> {
    /// Statements up to the `}` of this block, or the end; and whether there was a `}`.
    fn statements<G: Grammar>(&mut self, grammar: Option<G>) -> (Vec<Statement>, bool) {
        let mut found: Vec<Statement> = Vec::new();
        while let Some(piece) = self.pieces.pop() {
            match piece {
                Piece::Close(_) if self.depth > 0 => return (found, true),
                Piece::Close(at) => self.error(at, "`}` without a block", None),
                Piece::Open(at) => match found.last_mut() {
                    Some(last) if last.block.is_none() => {
                        let inner = grammar.and_then(|g| g.block(last.keyword()));
                        last.block = Some(self.block(inner, at));
                    }
                    _ => {
                        self.error(at.clone(), "`{` without a keyword before it", None);
                        self.block::<G>(None, at);
                    }
                },
                Piece::Words(statement) => {
                    let inner = grammar.and_then(|g| g.block(statement.keyword()));
                    let opened = matches!(self.pieces.last(), Some(Piece::Open(_)));
                    let at = statement.at();
                    found.push(statement);
                    if let Some(inner) = inner
                        && !opened
                    {
                        self.error(
                            at.clone(),
                            "`{` is missing behind this",
                            Some("taken as if it were there"),
                        );
                        let block = self.block(Some(inner), at);
                        if let Some(last) = found.last_mut() {
                            last.block = Some(block);
                        }
                    }
                }
            }
        }
        (found, false)
    }

    fn block<G: Grammar>(&mut self, inner: Option<G>, at: Place) -> Vec<Statement> {
        if self.depth >= DEEPEST {
            self.error(at, "blocks are nested too deeply", None);
            self.pieces.clear();
            return Vec::new();
        }
        self.depth += 1;
        let (found, closed) = self.statements(inner);
        if !closed {
            let count = self.unclosed.as_ref().map_or(0, |(_, count)| *count);
            let innermost = self.unclosed.take().map_or(at, |(place, _)| place);
            self.unclosed = Some((innermost, count + 1));
        }
        self.depth -= 1;
        found
    }

    fn error(&mut self, at: Place, message: &str, hint: Option<&str>) {
        let diagnostic = Diagnostic::new(Severity::Error, at, message);
        self.diagnostics
            .push(diagnostic.hint(hint.map(str::to_owned)));
    }
}
