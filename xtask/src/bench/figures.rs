//! What the bench measured.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::page;

/// One median.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it belongs with.
    pub chart: String,
    /// What was measured.
    pub row: String,
    /// Over how many (flows, servers, services, processors).
    pub x: u32,
    /// Nanoseconds.
    pub ns: f64,
}

/// Something that was measured of a whole director.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
}

/// All of them.
#[derive(Debug)]
pub struct Figures {
    machine: String,
    verified: String,
    all: Vec<Figure>,
    /// What was measured at scale.
    pub scale: Vec<Measured>,
}

/// The charts, as the page has them, and what their columns count.
const CHARTS: [(&str, &str, &str); 6] = [
    ("established", "established", "flows"),
    ("new", "new connections", "opened"),
    ("schedulers", "new connections, 65,536 opened", "servers"),
    ("servers", "65,536 flows", "servers"),
    ("services", "65,536 flows", "services"),
    ("cores", "65,536 flows", "processors"),
];

impl Figures {
    /// From the bench's JSON.
    ///
    /// # Errors
    /// Something else than that.
    pub fn read(json: &[u8]) -> Result<Self> {
        let json: Value = serde_json::from_slice(json)?;
        let text = |value: &Value, key: &str| {
            let text = value[key].as_str().map(str::to_owned);
            text.with_context(|| format!("no text {key}"))
        };
        let rows = json["rows"].as_array().context("no rows")?;
        let scale = json["scale"].as_array().context("no scale")?;
        let number = |value: &Value, key: &str| {
            let number = value[key].as_f64();
            number.with_context(|| format!("no number {key}"))
        };
        let figure = |row: &Value| {
            Ok(Figure {
                chart: text(row, "chart")?,
                row: text(row, "row")?,
                x: u32::try_from(row["x"].as_u64().context("no x")?)?,
                ns: number(row, "ns")?,
            })
        };
        let measured = |row: &Value| {
            Ok(Measured {
                what: text(row, "what")?,
                value: number(row, "value")?,
                unit: text(row, "unit")?,
            })
        };
        Ok(Self {
            machine: text(&json, "machine")?,
            verified: text(&json, "verified")?,
            all: rows.iter().map(figure).collect::<Result<_>>()?,
            scale: scale.iter().map(measured).collect::<Result<_>>()?,
        })
    }

    /// The figure of a row over `x`.
    pub fn of(&self, row: &str, x: u32) -> Option<f64> {
        let found = self.all.iter().find(|one| one.row == row && one.x == x);
        found.map(|one| one.ns)
    }

    /// A row's figures, least `x` first.
    pub fn row(&self, row: &str) -> Vec<(u32, f64)> {
        let rows = self.all.iter().filter(|one| one.row == row);
        let mut figures: Vec<_> = rows.map(|one| (one.x, one.ns)).collect();
        figures.sort_by_key(|(x, _)| *x);
        figures
    }

    /// Names of the rows of a chart, in the order they were measured.
    pub fn rows(&self, chart: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for one in self.all.iter().filter(|one| one.chart == chart) {
            if !names.contains(&one.row.as_str()) {
                names.push(&one.row);
            }
        }
        names
    }

    /// All of it as Markdown.
    pub fn tables(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for (chart, title, columns) in CHARTS {
            let of_chart = self.all.iter().filter(|one| one.chart == chart);
            let all: BTreeSet<u32> = of_chart.map(|one| one.x).collect();
            let all: Vec<u32> = all.into_iter().collect();
            let header: Vec<_> = all.iter().map(|x| format!("{x} {columns}")).collect();
            let cell = |row: &str, at: usize| Some(format!("{:.0}", self.of(row, all[at])?));
            let table = page::table(title, &header, &self.rows(chart), cell);
            let _ = write!(text, "\n{table}");
        }
        let _ = writeln!(text, "\nverified instructions: {}", self.verified);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_number() {
        let json = br#"{"machine": "M", "verified": "a 1", "scale": [], "rows": [
            {"chart": "new", "row": "DR", "x": 65536, "ns": 20.4},
            {"chart": "new", "row": "DR", "x": 4096, "ns": 10.0},
            {"chart": "new", "row": "NAT", "x": 4096, "ns": 30.6}]}"#;
        let figures = Figures::read(json).unwrap();
        assert_eq!(figures.row("DR"), [(4096, 10.0), (65_536, 20.4)]);
        let text = figures.tables();
        let table = "| new connections | 4096 opened | 65536 opened |\n|---|---:|---:|\n\
            | DR | 10 | 20 |\n| NAT | 31 | – |\n";
        assert!(text.contains(table), "{text}");
        assert!(Figures::read(b"{}").is_err());
    }
}
