//! Keywords: one table for each kind of block says which there are, what follows them, and whether
//! they change anything. What is unknown is looked up in it, and the documentation is held against it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use pointsman_model::{Script, ScriptUser};

use super::Options;
use super::include::Files;
use super::lex::{Text, Word, place, script_words};
use super::names::{Names, Numbers};
use super::rule::Preferences;
use super::sequence::integer;
use super::tree::Statement;
use crate::diag::{Diagnostic, Diagnostics, Place, Severity, nearest};

/// A keyword of blocks that fill a `T`.
pub struct Keyword<T: 'static> {
    /// The word.
    pub name: &'static str,
    /// What follows it, for the documentation.
    pub arguments: &'static str,
    /// What it does.
    pub does: Does<T>,
}

/// What a keyword does.
pub enum Does<T: 'static> {
    /// It is understood and takes effect.
    Sets(fn(&mut Reader<'_>, &mut T, &mut Args<'_>)),
    /// It is accepted and changes nothing, because…
    Nothing(&'static str),
}

impl<T> Keyword<T> {
    /// A keyword that takes effect.
    pub const fn sets(
        name: &'static str,
        arguments: &'static str,
        set: fn(&mut Reader<'_>, &mut T, &mut Args<'_>),
    ) -> Self {
        Self {
            name,
            arguments,
            does: Does::Sets(set),
        }
    }

    /// A keyword that is accepted without effect; `why` continues "no effect here, because".
    pub const fn nothing(name: &'static str, arguments: &'static str, why: &'static str) -> Self {
        Self {
            name,
            arguments,
            does: Does::Nothing(why),
        }
    }
}

/// The words behind a keyword, taken one after the other.
pub struct Args<'s> {
    /// The whole statement.
    pub statement: &'s Statement,
    taken: usize,
    block_taken: bool,
}

impl<'s> Args<'s> {
    /// All words of a statement but the first are still to be taken.
    pub fn new(statement: &'s Statement) -> Self {
        Self {
            statement,
            taken: 0,
            block_taken: false,
        }
    }

    /// A statement without a keyword: its first word is the first to be taken.
    pub fn of_entry(statement: &'s Statement) -> EntryWords<'s> {
        EntryWords {
            words: &statement.words,
        }
    }

    /// The keyword.
    pub fn keyword(&self) -> &'s str {
        self.statement.keyword()
    }

    /// Place of the keyword.
    pub fn at(&self) -> Place {
        self.statement.at()
    }

    /// The next word, which stays.
    pub fn peek(&self) -> Option<&'s Word> {
        self.statement.arguments().get(self.taken)
    }

    /// Takes the next word.
    pub fn take(&mut self) -> Option<&'s Word> {
        let word = self.peek()?;
        self.taken += 1;
        Some(word)
    }

    /// Takes the next word if it is `word`.
    pub fn take_word(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|w| w.text == word);
        self.taken += usize::from(is);
        is
    }

    /// Takes all words that are left.
    pub fn rest(&mut self) -> &'s [Word] {
        let rest = self
            .statement
            .arguments()
            .get(self.taken..)
            .unwrap_or_default();
        self.taken += rest.len();
        rest
    }

    /// Takes the block; without one it is empty.
    pub fn block(&mut self) -> &'s [Statement] {
        self.block_taken = true;
        self.statement.block.as_deref().unwrap_or_default()
    }
}

/// The words of an entry of a list, taken one after the other.
#[derive(Clone, Copy)]
pub struct EntryWords<'s> {
    words: &'s [Word],
}

impl<'s> EntryWords<'s> {
    /// The next word, which stays.
    pub fn peek(&self) -> Option<&'s Word> {
        self.words.first()
    }

    /// Takes the next word.
    pub fn take(&mut self) -> Option<&'s Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Takes the next word if it is `word`.
    pub fn take_word(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|w| w.text == word);
        if is {
            self.take();
        }
        is
    }
}

/// Understands statements; everything it has to say is collected.
pub struct Reader<'a> {
    /// What was said so far.
    pub diagnostics: &'a mut Diagnostics,
    /// What the caller wants.
    pub options: &'a Options,
    /// Where names of numbers are read from.
    pub files: &'a dyn Files,
    /// Names of numbers.
    pub names: Names,
    /// For rules without a preference, over the whole file.
    pub preferences: Preferences,
}

impl Reader<'_> {
    /// Applies the keywords of a block to `target`. `what` names the block in messages.
    pub fn block<T>(
        &mut self,
        target: &mut T,
        statements: &[Statement],
        keywords: &[&'static [Keyword<T>]],
        what: &str,
    ) {
        for statement in statements {
            self.statement(target, statement, keywords, what);
        }
    }

    fn statement<T>(
        &mut self,
        target: &mut T,
        statement: &Statement,
        keywords: &[&'static [Keyword<T>]],
        what: &str,
    ) {
        let name = statement.keyword();
        let at = statement.at();
        let Some(keyword) = keywords.iter().copied().flatten().find(|k| k.name == name) else {
            let known = keywords.iter().copied().flatten().map(|k| k.name);
            let hint = match self.diagnostics.is_full() {
                true => None,
                false => nearest(name, known),
            };
            let hint = hint.map(|near| format!("did you mean `{near}`?"));
            return self.say(
                Severity::Error,
                at,
                format!("unknown keyword `{name}` in {what}"),
                hint,
            );
        };
        match &keyword.does {
            Does::Nothing(why) => {
                let message = format!("`{name}` is accepted and has no effect here, because {why}");
                self.say(Severity::NoEffect, at, message, None);
            }
            Does::Sets(set) => {
                let mut args = Args::new(statement);
                set(self, target, &mut args);
                if let Some(word) = args.peek() {
                    let message = format!("what follows `{name}` here is ignored");
                    let hint = "only braces separate statements of one line".to_owned();
                    self.say(Severity::Warning, word.at.clone(), message, Some(hint));
                }
                if statement.block.is_some() && !args.block_taken {
                    self.error(
                        &at,
                        format!("`{name}` has no block; what is in the braces is left out"),
                    );
                }
            }
        }
    }

    /// Says something.
    pub fn say(&mut self, severity: Severity, at: Place, message: String, hint: Option<String>) {
        self.diagnostics
            .push(Diagnostic::new(severity, at, message).hint(hint));
    }

    /// Says that something is wrong.
    pub fn error(&mut self, at: &Place, message: impl Into<String>) {
        self.say(Severity::Error, at.clone(), message.into(), None);
    }

    /// Says that something is probably not meant.
    pub fn warn(&mut self, at: &Place, message: impl Into<String>) {
        self.say(Severity::Warning, at.clone(), message.into(), None);
    }

    /// The next word. keepalived ends when one is missing, so a file without it is not taken.
    pub fn need<'s>(&mut self, args: &mut Args<'s>, what: &str) -> Option<&'s Word> {
        let word = args.take();
        if word.is_none() {
            let message = format!("`{}` needs {what} behind it", args.keyword());
            self.say(Severity::Fatal, args.at(), message, None);
        }
        word
    }

    /// The next word as text.
    pub fn text(&mut self, args: &mut Args<'_>, what: &str) -> Option<String> {
        Some(self.need(args, what)?.text.clone())
    }

    /// An optional BOOL; on when there is none.
    pub fn flag(&mut self, args: &mut Args<'_>) -> Option<bool> {
        let Some(word) = args.take() else {
            return Some(true);
        };
        match word.text.as_str() {
            "on" | "true" | "yes" => Some(true),
            "off" | "false" | "no" => Some(false),
            other => {
                let hint = "on, true, yes, off, false or no is expected".to_owned();
                let message = format!("`{other}` is neither on nor off");
                self.say(Severity::Error, word.at.clone(), message, Some(hint));
                None
            }
        }
    }

    /// A number behind the keyword.
    pub fn number(&mut self, args: &mut Args<'_>, range: RangeInclusive<i64>) -> Option<i64> {
        let word = self.need(args, "a number")?;
        self.number_of(word, range)
    }

    /// A word as a number. As in a running keepalived, one that only begins with a number counts.
    pub fn number_of(&mut self, word: &Word, range: RangeInclusive<i64>) -> Option<i64> {
        let text = word.text.as_str();
        let sign = usize::from(text.starts_with(['-', '+']));
        let digits = text[sign..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(text.len(), |i| sign + i);
        let Ok(number) = text[..digits].parse::<i64>() else {
            self.error(&word.at, format!("`{text}` is no number"));
            return None;
        };
        if !range.contains(&number) {
            let (low, high) = range.into_inner();
            self.error(
                &word.at,
                format!("`{text}` is out of range, which is {low} to {high}"),
            );
            return None;
        }
        if digits < text.len() {
            self.error(
                &word.at,
                format!("`{text}` is no number; taken as {number}"),
            );
        }
        Some(number)
    }

    /// A number behind the keyword that fits `N`.
    pub fn small<N: TryFrom<i64>>(
        &mut self,
        args: &mut Args<'_>,
        range: RangeInclusive<i64>,
    ) -> Option<N> {
        N::try_from(self.number(args, range)?).ok()
    }

    /// Decimal seconds behind the keyword.
    pub fn timer(&mut self, args: &mut Args<'_>, range: RangeInclusive<f64>) -> Option<Duration> {
        let word = self.need(args, "a time in seconds")?;
        self.timer_of(word, range)
    }

    /// A word as decimal seconds, six digits behind the point at most.
    pub fn timer_of(&mut self, word: &Word, range: RangeInclusive<f64>) -> Option<Duration> {
        let text = word.text.as_str();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
            self.error(&word.at, format!("`{text}` is no time in seconds"));
            return None;
        }
        let seconds: u64 = if whole.is_empty() {
            Ok(0)
        } else {
            whole.parse()
        }
        .unwrap_or(u64::MAX);
        let digits: String = fraction.chars().chain("0000000".chars()).take(7).collect();
        let micros = (digits.parse::<u64>().unwrap_or(0) + 5) / 10;
        if fraction.len() > 6 {
            self.error(
                &word.at,
                format!("`{text}` has too many decimal places, and is rounded"),
            );
        }
        let micros = seconds.saturating_mul(1_000_000).saturating_add(micros);
        let value = Duration::from_micros(micros);
        if !range.contains(&value.as_secs_f64()) {
            let (low, high) = range.into_inner();
            self.error(
                &word.at,
                format!("`{text}` is out of range, which is {low} to {high} seconds"),
            );
            return None;
        }
        Some(value)
    }

    /// An address behind the keyword.
    pub fn address(&mut self, args: &mut Args<'_>) -> Option<IpAddr> {
        let word = self.need(args, "an IP address")?;
        self.address_of(word)
    }

    /// A word as an address.
    pub fn address_of(&mut self, word: &Word) -> Option<IpAddr> {
        let address = word.text.parse().ok();
        if address.is_none() {
            self.error(&word.at, format!("`{}` is no IP address", word.text));
        }
        address
    }

    /// A port, 1 to 65535.
    pub fn port_of(&mut self, word: &Word) -> Option<u16> {
        u16::try_from(self.number_of(word, 1..=65535)?).ok()
    }

    /// One of some words behind the keyword.
    pub fn choice<V: Copy>(&mut self, args: &mut Args<'_>, known: &[(&str, V)]) -> Option<V> {
        let word = self.need(args, "a word")?;
        self.choice_of(word, known)
    }

    /// A word as one of some.
    pub fn choice_of<V: Copy>(&mut self, word: &Word, known: &[(&str, V)]) -> Option<V> {
        let found = known.iter().find(|(name, _)| *name == word.text);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let hint = match nearest(&word.text, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected: {}", names.join(", ")),
            };
            let message = format!("`{}` is not known here", word.text);
            self.say(Severity::Error, word.at.clone(), message, Some(hint));
        }
        found.map(|(_, value)| *value)
    }

    /// `COMMAND [user [[:]group]]`: takes all words.
    pub fn script(&mut self, args: &mut Args<'_>) -> Option<Script> {
        let words = self.script_words(args)?;
        let Some(command) = words.get(1).filter(|word| !word.text.trim().is_empty()) else {
            let message = format!("`{}` needs a command behind it", args.keyword());
            self.say(Severity::Fatal, args.at(), message, None);
            return None;
        };
        let argv = self.command_words(command)?;
        let user = words.get(2).map(|user| script_user(user, words.get(3)));
        if let Some(extra) = words.get(4) {
            let hint = "a command with arguments stands in double quotes".to_owned();
            let message = "only user and group may follow the command".to_owned();
            self.say(Severity::Warning, extra.at.clone(), message, Some(hint));
        }
        Some(Script { argv, user })
    }

    /// Sets what may be set once; a second one is reported and left out.
    pub fn once<V>(&mut self, place: &mut Option<V>, value: Option<V>, args: &Args<'_>) {
        if place.is_some() {
            let message = format!(
                "`{}` is there already; this one is left out",
                args.keyword()
            );
            self.error(&args.at(), message);
        } else {
            *place = value;
        }
    }

    /// One word, split as those of scripts are: both quotes and escapes.
    pub fn quoted(&mut self, args: &mut Args<'_>, what: &str) -> Option<String> {
        let words = self.script_words(args)?;
        match words.into_iter().nth(1) {
            Some(word) => Some(word.text),
            None => {
                let message = format!("`{}` needs {what} behind it", args.keyword());
                self.say(Severity::Fatal, args.at(), message, None);
                None
            }
        }
    }

    /// All words of the statement, the keyword too, as those of scripts are split.
    fn script_words(&mut self, args: &mut Args<'_>) -> Option<Vec<Word>> {
        args.rest();
        let statement = args.statement;
        match script_words(&statement.text, &statement.source) {
            Ok(words) => Some(words),
            Err(open) => {
                let at = place(&statement.text, open..open + 1, &statement.source);
                self.error(&at, "unterminated quote");
                None
            }
        }
    }

    /// Splits what stood in quotes into program and arguments.
    fn command_words(&mut self, command: &Word) -> Option<Vec<String>> {
        let text = Text::of_line(&command.text);
        match script_words(&text, &command.at.line) {
            Ok(words) if !words.is_empty() => Some(words.into_iter().map(|w| w.text).collect()),
            _ => {
                self.error(&command.at, format!("`{}` is no command", command.text));
                None
            }
        }
    }

    /// `USER [[:]GROUP]` behind the keyword.
    pub fn user(&mut self, args: &mut Args<'_>) -> Option<ScriptUser> {
        let user = self.need(args, "a user")?;
        let group = args.take();
        Some(script_user(user, group))
    }

    /// The word behind an option of an entry.
    pub fn value<'s>(&mut self, words: &mut EntryWords<'s>, option: &Word) -> Option<&'s Word> {
        let word = words.take();
        if word.is_none() {
            self.error(
                &option.at,
                format!("`{}` needs a value behind it", option.text),
            );
        }
        word
    }

    /// An address behind an option of an entry.
    pub fn address_in(&mut self, words: &mut EntryWords<'_>, option: &Word) -> Option<IpAddr> {
        let word = self.value(words, option)?;
        self.address_of(word)
    }

    /// An interface behind an option of an entry.
    pub fn interface(&mut self, words: &mut EntryWords<'_>, option: &Word) -> Option<String> {
        let word = self.value(words, option)?;
        self.check_interface(word);
        Some(word.text.clone())
    }

    /// A number in C's notation, 0 to 4294967295.
    pub fn unsigned(&mut self, word: &Word) -> Option<u32> {
        let number = integer(&word.text).ok().and_then(|n| u32::try_from(n).ok());
        if number.is_none() {
            self.error(
                &word.at,
                format!("`{}` is no number from 0 to 4294967295", word.text),
            );
        }
        number
    }

    /// A number of 0 to 255 in C's notation behind an option of an entry.
    pub fn byte(&mut self, words: &mut EntryWords<'_>, option: &Word) -> Option<u8> {
        let word = self.value(words, option)?;
        let number = integer(&word.text).ok().and_then(|n| u8::try_from(n).ok());
        if number.is_none() {
            self.error(
                &word.at,
                format!("`{}` is no number from 0 to 255", word.text),
            );
        }
        number
    }

    /// A number of routing, or its name.
    pub fn routing_number(&mut self, word: &Word, numbers: Numbers) -> Option<u32> {
        let number = self.names.number(numbers, &word.text, self.files);
        if number.is_none() {
            let message = format!(
                "`{}` is neither a number nor a name that iproute2 knows",
                word.text
            );
            self.error(&word.at, message);
        }
        number
    }

    /// `[FROM/]TO` as one number.
    pub fn realms(&mut self, word: &Word) -> Option<u32> {
        let (from, to) = word.text.split_once('/').unwrap_or(("0", &word.text));
        let mut number = |text: &str| self.names.number(Numbers::Realms, text, self.files);
        let realms = number(from)
            .zip(number(to))
            .map(|(from, to)| from << 16 | to);
        if realms.is_none() {
            self.error(&word.at, format!("`{}` are no realms", word.text));
        }
        realms
    }

    /// Warns of an interface that this machine does not have, if we know which it has.
    pub fn check_interface(&mut self, word: &Word) {
        if let Some(known) = &self.options.interfaces
            && !known.contains(&word.text)
        {
            let near = nearest(&word.text, known.iter().map(String::as_str));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("this machine has no interface `{}`", word.text);
            self.say(Severity::Warning, word.at.clone(), message, hint);
        }
    }
}

fn script_user(user: &Word, group: Option<&Word>) -> ScriptUser {
    let (name, with_user) = match user.text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user.text.as_str(), None),
    };
    let group = with_user.or(group.map(|g| g.text.trim_start_matches(':')));
    ScriptUser {
        user: name.to_owned(),
        group: group.filter(|g| !g.is_empty()).map(str::to_owned),
    }
}
