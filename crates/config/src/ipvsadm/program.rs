use std::io::{self, Read, Write};

use super::args::parse;
use super::command::{Command, Format};
use super::names::Names;
use super::run::{Director, run};

/// The three programs of the `ipvsadm` package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ipvsadm`.
    Ipvsadm,
    /// `ipvsadm-save`: rules to standard output, `-n` for numbers.
    Save,
    /// `ipvsadm-restore`: rules from standard input replace what is there.
    Restore,
}

impl Program {
    /// The program of a name, as in `argv[0]` without directories.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ipvsadm" => Some(Self::Ipvsadm),
            "ipvsadm-save" => Some(Self::Save),
            "ipvsadm-restore" => Some(Self::Restore),
            _ => None,
        }
    }

    /// Runs the program with the words after its name and returns the exit code. A mistake on the
    /// command line is told before the director is asked anything.
    ///
    /// # Errors
    /// Of the reader and the writers.
    pub fn run(
        self,
        words: &[String],
        director: &mut dyn Director,
        names: &dyn Names,
        input: &mut dyn Read,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<u8> {
        match self {
            Self::Ipvsadm => match parse(words, names) {
                Ok(command) => run(command, director, names, input, out, err),
                Err(mistake) => {
                    writeln!(err, "{mistake}")?;
                    Ok(mistake.exit_code())
                }
            },
            Self::Save => {
                if words
                    .iter()
                    .any(|word| word.starts_with('-') && word != "-n")
                {
                    writeln!(err, "ipvsadm-save: prints the rules of the director.")?;
                    writeln!(err, "   -n  addresses and ports as numbers")?;
                    return Ok(1);
                }
                let numeric = words.iter().any(|word| word == "-n");
                let format = Format::Text;
                run(
                    Command::Save { numeric, format },
                    director,
                    names,
                    input,
                    out,
                    err,
                )
            }
            Self::Restore => {
                // Nothing is cleared before the rules are there.
                let mut rules = Vec::new();
                input.read_to_end(&mut rules)?;
                let rules: Vec<u8> = rules
                    .split_inclusive(|&b| b == b'\n')
                    .filter(|line| !line.starts_with(b"#"))
                    .flatten()
                    .copied()
                    .collect();
                let cleared = run(Command::Flush, director, names, &mut io::empty(), out, err)?;
                if cleared != 0 {
                    return Ok(cleared);
                }
                run(
                    Command::Restore,
                    director,
                    names,
                    &mut rules.as_slice(),
                    out,
                    err,
                )
            }
        }
    }
}
