//! The page that benches write.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::sh;

const PAGE: &str = "docs/benchmarks.md";

/// Puts `text` between two lines of the page.
///
/// # Errors
/// The page lacks the lines, or cannot be written.
pub fn replace(begin: &str, end: &str, text: &str) -> Result<()> {
    let page = sh::root().join(PAGE);
    let old = fs::read_to_string(&page).with_context(|| format!("reading {PAGE}"))?;
    let (Some(from), Some(to)) = (old.find(begin), old.find(end)) else {
        bail!("{PAGE} lacks the lines {begin} and {end}");
    };
    let (head, tail) = (&old[..from + begin.len()], &old[to..]);
    fs::write(&page, format!("{head}\n\n{text}\n{tail}"))
        .with_context(|| format!("writing {PAGE}"))?;
    eprintln!("written to {PAGE}");
    Ok(())
}
