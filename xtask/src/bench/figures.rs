//! What the bench measured.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::page;

/// What was measured of one row.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it belongs with.
    pub chart: String,
    /// What was measured.
    pub row: String,
    /// Over how many (flows, servers, services, processors).
    pub x: u32,
    /// What it took.
    pub cost: Cost,
}

/// What a packet takes.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Nanoseconds: the median.
    pub ns: f64,
    /// Those of each turn, and which turns: alike for what went by the same. Of an earlier day there are none.
    turns: Option<(u64, Vec<f64>)>,
}

impl Cost {
    /// Of an earlier day.
    pub fn stated(ns: f64) -> Self {
        Self { ns, turns: None }
    }

    /// Its ratio to another: the median of those in each turn, where both had the same turns, for what slows the
    /// machine down for a while does so to both.
    pub fn to(&self, other: &Self) -> f64 {
        match (&self.turns, &other.turns) {
            (Some((own, ours)), Some((their, theirs)))
                if own == their && ours.len() == theirs.len() =>
            {
                median(ours.iter().zip(theirs).map(|(own, other)| own / other))
            }
            _ => self.ns / other.ns,
        }
    }
}

/// The middle one of some.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
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
            let times = row["times"].as_array().context("no times")?.iter();
            let times: Option<Vec<_>> = times.map(Value::as_f64).collect();
            let times = times
                .filter(|times| !times.is_empty())
                .context("no times")?;
            let turns = row["turns"].as_u64().context("no turns")?;
            Ok(Figure {
                chart: text(row, "chart")?,
                row: text(row, "row")?,
                x: u32::try_from(row["x"].as_u64().context("no x")?)?,
                cost: Cost {
                    ns: median(times.iter().copied()),
                    turns: Some((turns, times)),
                },
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
    pub fn of(&self, row: &str, x: u32) -> Option<&Cost> {
        let found = self.all.iter().find(|one| one.row == row && one.x == x);
        found.map(|one| &one.cost)
    }

    /// A row's figures, least `x` first.
    pub fn row(&self, row: &str) -> Vec<(u32, &Cost)> {
        let rows = self.all.iter().filter(|one| one.row == row);
        let mut figures: Vec<_> = rows.map(|one| (one.x, &one.cost)).collect();
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
            let cell = |row: &str, at: usize| Some(format!("{:.0}", self.of(row, all[at])?.ns));
            let table = page::table(title, &header, &self.rows(chart), cell);
            let _ = write!(text, "\n{table}");
        }
        let _ = writeln!(text, "\nverified instructions: {}", self.verified);
        text
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// Figures of these rows: chart, row, number, turns, times.
    pub fn read(rows: &[(&str, &str, u32, u64, &[f64])]) -> Figures {
        let rows = rows.iter().map(|(chart, row, x, turns, times)| {
            json!({ "chart": chart, "row": row, "x": x, "turns": turns, "times": times })
        });
        let rows: Vec<_> = rows.collect();
        let json = json!({ "machine": "M", "verified": "", "scale": [], "rows": rows });
        Figures::read(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_ratio_is_of_times_in_the_same_turns() {
        let figures = read(&[
            ("established", "DR", 1, 7, &[10.0, 20.0, 90.0]),
            ("established", "TUN", 1, 7, &[20.0, 25.0, 180.0]),
            ("new", "DR, new", 1, 8, &[20.0, 30.0, 180.0]),
        ]);
        let of = |row| figures.of(row, 1).unwrap();
        assert_eq!(of("TUN").to(of("DR")), 2.0);
        assert_eq!(of("DR, new").to(of("DR")), 1.5);
        assert_eq!(of("TUN").to(&Cost::stated(50.0)), 0.5);
    }

    #[test]
    fn a_table_has_a_column_for_each_number() {
        let figures = read(&[
            ("new", "DR", 65_536, 0, &[20.4]),
            ("new", "DR", 4096, 1, &[10.0]),
            ("new", "NAT", 4096, 1, &[30.6]),
        ]);
        let row = figures.row("DR").into_iter();
        let row: Vec<_> = row.map(|(x, cost)| (x, cost.ns)).collect();
        assert_eq!(row, [(4096, 10.0), (65_536, 20.4)]);
        let text = figures.tables();
        let table = "| new connections | 4096 opened | 65536 opened |\n|---|---:|---:|\n\
            | DR | 10 | 20 |\n| NAT | 31 | – |\n";
        assert!(text.contains(table), "{text}");
        assert!(Figures::read(b"{}").is_err());
    }
}
