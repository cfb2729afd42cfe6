//! What benches write: tables, and the page they are on.

use std::fmt::Write;
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

/// How a table says whether an aim is met.
pub fn met(is: bool) -> &'static str {
    if is { "yes" } else { "**no**" }
}

/// Three digits.
pub fn significant(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-9).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

/// A table in Markdown: its columns, and for each row what is in them; nothing known is a dash. A row of which
/// nothing is known is left out.
pub fn table(
    title: &str,
    columns: &[String],
    rows: &[&str],
    cell: impl Fn(&str, usize) -> Option<String>,
) -> String {
    let mut text = format!("| {title} | {} |\n", columns.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.len()));
    for row in rows {
        let cells: Vec<_> = (0..columns.len()).map(|at| cell(row, at)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or("–".into()));
            let _ = writeln!(
                text,
                "| {row} | {} |",
                cells.collect::<Vec<_>>().join(" | ")
            );
        }
    }
    text
}
