//! `include` and its family: which files a pattern names, and what must be so.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use glob::Pattern;

/// Largest file that is read.
const LARGEST_FILE: u64 = 16 << 20;
/// Most files that one pattern may name.
const MOST_FILES: usize = 10_000;
/// Most alternatives that the braces of a pattern may have.
const MOST_ALTERNATIVES: usize = 1000;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    File,
    /// A plain file with an execute bit, which is never included.
    Executable,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Where files are read from.
pub trait Files {
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// What is at a path.
    fn kind(&self, path: &Path) -> io::Result<Kind>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(LARGEST_FILE + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::other("larger than 16 MiB"));
        }
        Ok(bytes)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)?.take(MOST_FILES) {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        let metadata = fs::metadata(path)?;
        Ok(if metadata.is_dir() {
            Kind::Directory
        } else if !metadata.is_file() {
            Kind::Other
        } else if metadata.permissions().mode() & 0o111 != 0 {
            Kind::Executable
        } else {
            Kind::File
        })
    }
}

/// What must hold of a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Files that match are readable.
    pub readable: bool,
    /// A pattern without wildcards matches.
    pub matches: bool,
    /// A pattern with wildcards matches.
    pub wildcard: bool,
    /// Every alternative in braces matches.
    pub brace: bool,
}

impl Checks {
    /// Everything.
    pub const ALL: Self = Self {
        readable: true,
        matches: true,
        wildcard: true,
        brace: true,
    };

    /// What `keyword` checks beside what is checked at present; `None` for another keyword.
    pub fn of_keyword(keyword: &str, present: Self) -> Option<Self> {
        let readable = Self {
            readable: true,
            ..present
        };
        Some(match keyword {
            "include" => present,
            "includer" => readable,
            "includem" => Self {
                matches: true,
                ..readable
            },
            "includew" => Self {
                wildcard: true,
                ..readable
            },
            "includeb" => Self {
                brace: true,
                ..readable
            },
            "includea" => Self::ALL,
            _ => return None,
        })
    }

    /// What `include_check WORD…` makes of the present checks; an error names the wrong word.
    pub fn changed_by<'a>(self, words: &[&'a str]) -> Result<Self, &'a str> {
        if words.is_empty() {
            return Ok(Self::ALL);
        }
        let relative = words.iter().all(|w| w.starts_with(['+', '-']));
        let mut checks = if relative { self } else { Self::default() };
        for &word in words {
            let on = !word.starts_with('-');
            match word.trim_start_matches(['+', '-']) {
                "read" | "readable" => checks.readable = on,
                "match" => checks.matches = on,
                "wildcard_match" => checks.wildcard = on,
                "brace_match" => checks.brace = on,
                _ => return Err(word),
            }
        }
        Ok(checks)
    }
}

/// What a pattern names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// The files, in the order they are read.
    pub files: Vec<PathBuf>,
    /// What was passed over, and why.
    pub skipped: Vec<(PathBuf, &'static str)>,
    /// What is missing.
    pub missing: Vec<String>,
    /// Whether one of the checks forbids what is missing.
    pub forbidden: bool,
}

/// The files that `pattern` names, relative to `directory`.
pub fn expand(
    pattern: &str,
    directory: &Path,
    checks: Checks,
    files: &dyn Files,
) -> Result<Matches, String> {
    let alternatives = braces(pattern)?;
    let mut found = Matches::default();
    for alternative in &alternatives {
        let wild = alternative.contains(['*', '?', '[']);
        let paths = glob(&directory.join(alternative), files)?;
        if paths.is_empty() {
            found.missing.push(alternative.clone());
            found.forbidden |= if wild {
                checks.wildcard
            } else {
                checks.matches
            } || (alternatives.len() > 1 && checks.brace);
        }
        for path in paths {
            match files.kind(&path) {
                Ok(Kind::File) => found.files.push(path),
                Ok(Kind::Executable) => found.skipped.push((path, "it is executable")),
                Ok(Kind::Directory) => found.skipped.push((path, "it is a directory")),
                Ok(Kind::Other) => found.skipped.push((path, "it is no regular file")),
                Err(_) => found.skipped.push((path, "it cannot be looked at")),
            }
        }
        if found.files.len() > MOST_FILES {
            return Err(format!("it names more than {MOST_FILES} files"));
        }
    }
    Ok(found)
}

/// `a{b,c}d` is `abd` and `acd`; what is unbalanced stays as it is.
fn braces(pattern: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(text) = open.pop() {
        if done.len() + open.len() > MOST_ALTERNATIVES {
            return Err(format!(
                "its braces have more than {MOST_ALTERNATIVES} alternatives"
            ));
        }
        match first_group(&text) {
            None => done.push(text),
            Some((start, commas, end)) => {
                // Pushed from the back, so that the first comes out first.
                let mut bounds = vec![start];
                bounds.extend(commas);
                bounds.push(end);
                for pair in bounds.windows(2).rev() {
                    let middle = &text[pair[0] + 1..pair[1]];
                    open.push(format!("{}{middle}{}", &text[..start], &text[end + 1..]));
                }
            }
        }
    }
    Ok(done)
}

/// The first balanced group that has a comma of its own: its start, its commas, its end.
fn first_group(text: &str) -> Option<(usize, Vec<usize>, usize)> {
    for (start, _) in text.match_indices('{') {
        let mut depth = 0;
        let mut commas = Vec::new();
        for (i, c) in text[start..].char_indices() {
            match c {
                '{' => depth += 1,
                ',' if depth == 1 => commas.push(start + i),
                '}' if depth == 1 => {
                    if commas.is_empty() {
                        break;
                    }
                    return Some((start, commas, start + i));
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    None
}

/// Existing paths that match, sorted as the shell sorts them.
fn glob(pattern: &Path, files: &dyn Files) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.to_string_lossy();
        if !name.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(&*name));
            continue;
        }
        let matcher = Pattern::new(&name).map_err(|error| error.to_string())?;
        let mut next = Vec::new();
        for directory in found {
            let mut names = files.list(&directory).unwrap_or_default();
            // A leading dot must be meant.
            names.retain(|n| matcher.matches(n) && (name.starts_with('.') || !n.starts_with('.')));
            names.sort();
            next.extend(names.iter().map(|n| directory.join(n)));
            if next.len() > MOST_FILES {
                return Err(format!("it names more than {MOST_FILES} files"));
            }
        }
        found = next;
    }
    found.retain(|path| files.kind(path).is_ok());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_expand_in_order() {
        for (pattern, expected) in [
            ("a", "a"),
            ("{a,b}c", "ac bc"),
            ("x{a,b{1,2},}y", "xay xb1y xb2y xy"),
            ("{a}", "{a}"),
            ("{a,b", "{a,b"),
            ("{x{a,b}", "{xa {xb"),
        ] {
            assert_eq!(braces(pattern).unwrap().join(" "), expected, "{pattern}");
        }
        assert!(braces(&"{a,b}".repeat(30)).is_err());
    }

    #[test]
    fn include_check_adds_removes_and_sets() {
        let all = Checks::default().changed_by(&[]).unwrap();
        assert_eq!(all, Checks::ALL);
        let less = all.changed_by(&["-match"]).unwrap();
        assert!(!less.matches && less.readable && less.brace);
        let only = all.changed_by(&["read"]).unwrap();
        assert!(only.readable && !only.matches);
        assert_eq!(all.changed_by(&["+match", "raed"]), Err("raed"));
        let with = Checks::of_keyword("includem", Checks::default()).unwrap();
        assert!(with.readable && with.matches && !with.brace);
        assert_eq!(Checks::of_keyword("included", all), None);
    }
}
