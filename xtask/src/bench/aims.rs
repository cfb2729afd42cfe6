//! What the figures are to be, and whether they are.

use std::fmt::Write;

use super::figures::{Cost, Figures, Measured};
use crate::page;

/// Katran's default build, net nanoseconds of an IPv4 TCP packet, as measured by turns with Pointsman (see
/// `docs/benchmarks.md`), for where it is not measured beside: of an established flow, over so many.
const KATRAN: [(u32, f64); 4] = [
    (1, 104.0),
    (256, 106.0),
    (65_536, 414.0),
    (1_000_000, 504.0),
];
/// The same of a SYN of a flow that it knows, of so many: its limit of new flows lifted.
const KATRAN_SYN: [(u32, f64); 4] = [
    (1, 250.0),
    (256, 333.0),
    (65_536, 719.0),
    (1_000_000, 1105.0),
];
/// The same of a new flow, once its LRU is full, which it then stays.
const KATRAN_FULL: [(u32, f64); 3] = [(4096, 1203.0), (65_536, 1010.0), (1_000_000, 998.0)];
/// The same before its LRU was ever full.
const KATRAN_FRESH: [(u32, f64); 3] = [(4096, 584.0), (65_536, 478.0), (1_000_000, 442.0)];

/// Of what is measured at scale: the limit, and whether more is better.
const SCALE: [(&str, f64, bool); 6] = [
    ("10,000 services of 10 servers restored", 3.0, false),
    ("10,000 services of 10 servers listed", 1.0, false),
    ("a change reaches packets, p99", 5.0, false),
    ("a director of 1,000,000 connections, idle", 5.0, false),
    ("connections held", 10_000_000.0, true),
    (
        "64 packets while 1,000,000 connections are swept, p99, to without",
        1.5,
        false,
    ),
];

/// One aim, judged.
struct Verdict {
    aim: String,
    /// Measured, over what.
    ratios: Vec<(u32, f64)>,
    limit: f64,
    /// Whether more is better.
    at_least: bool,
}

impl Verdict {
    fn at_most(aim: impl Into<String>, limit: f64, ratios: Vec<(u32, f64)>) -> Self {
        Self {
            aim: aim.into(),
            ratios,
            limit,
            at_least: false,
        }
    }

    /// `None` without a figure.
    fn met(&self) -> Option<bool> {
        let good = |(_, ratio): &(u32, f64)| {
            // As it is printed.
            let ratio = (ratio * 100.0).round() / 100.0;
            if self.at_least {
                ratio >= self.limit
            } else {
                ratio <= self.limit
            }
        };
        (!self.ratios.is_empty()).then(|| self.ratios.iter().all(good))
    }
}

/// Ratios of a row to what it is measured by, wherever there are both.
fn against(figures: &Figures, row: &str, base: impl Fn(u32) -> Option<Cost>) -> Vec<(u32, f64)> {
    let row = figures.row(row).into_iter();
    row.filter_map(|(x, cost)| Some((x, cost.to(&base(x)?))))
        .collect()
}

/// What Katran takes over `x`: as it was measured in this run, else as it is stated.
fn katran(
    figures: &Figures,
    measured: Option<&str>,
    stated: &[(u32, f64)],
    x: u32,
) -> Option<Cost> {
    let stated = || stated.iter().find(|(of, _)| *of == x);
    let measured = measured.and_then(|row| figures.of(row, x)).cloned();
    measured.or_else(|| stated().map(|(_, ns)| Cost::stated(*ns)))
}

/// New connections, to Katran's.
fn new_to_katran(
    figures: &Figures,
    whom: &str,
    katran: impl Fn(u32) -> Option<Cost>,
) -> Vec<Verdict> {
    let new = "DR, new connection";
    let ratios = against(figures, new, &katran);
    let mut verdicts = vec![Verdict::at_most(format!("{new}, to {whom}"), 0.5, ratios)];
    for (scheduler, servers, limit) in [("sh", 100, 0.5), ("mh", 100, 0.5), ("wlc", 100, 1.0)] {
        let row = format!("new connection by {scheduler}");
        let own = figures.of(&row, servers).zip(katran(65_536));
        let ratios = own.map(|(own, katran)| (servers, own.to(&katran)));
        let aim = format!("{row}, to {whom}");
        verdicts.push(Verdict::at_most(aim, limit, ratios.into_iter().collect()));
    }
    verdicts
}

fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (row, limit) in [
        ("DR, established", 0.5),
        ("TUN, established", 0.5),
        ("NAT, established", 0.6),
        ("NAT, replies", 0.6),
        ("FULLNAT, established", 0.8),
    ] {
        let katran = |x| katran(figures, Some("Katran, established"), &KATRAN, x);
        let ratios = against(figures, row, katran);
        verdicts.push(Verdict::at_most(format!("{row}, to Katran"), limit, ratios));
    }
    let known = |x| katran(figures, Some("Katran, SYN of a known flow"), &KATRAN_SYN, x);
    for row in ["DR, SYN of a known flow", "TUN, SYN of a known flow"] {
        let ratios = against(figures, row, known);
        verdicts.push(Verdict::at_most(format!("{row}, to Katran"), 0.5, ratios));
    }
    let full = |x| katran(figures, Some("Katran, new connection"), &KATRAN_FULL, x);
    verdicts.extend(new_to_katran(figures, "Katran", full));
    // An LRU that is empty is not there to be measured beside.
    let fresh = |x| katran(figures, None, &KATRAN_FRESH, x);
    verdicts.extend(new_to_katran(figures, "a Katran just started", fresh));
    for (kind, limit) in [(" IPv6", 1.3), (" UDP", 1.1)] {
        for method in ["DR", "TUN", "NAT", "FULLNAT"] {
            let row = format!("{method}{kind}, established");
            let base = format!("{method}, established");
            let ratios = against(figures, &row, |x| figures.of(&base, x).cloned());
            let other = if kind == " UDP" { "TCP" } else { "IPv4" };
            verdicts.push(Verdict::at_most(
                format!("{row}, to {other}"),
                limit,
                ratios,
            ));
        }
    }
    for method in ["DR", "NAT", "FULLNAT"] {
        let base = format!("{method}, established");
        let row = format!("{base}, on TC");
        let ratios = against(figures, &row, |x| figures.of(&base, x).cloned());
        verdicts.push(Verdict::at_most(format!("{row}, to XDP"), 1.3, ratios));
    }
    for over in ["servers", "services"] {
        let row = format!("DR, established, over {over}");
        let first = figures.row(&row).first().map(|(_, cost)| *cost);
        let ratios = against(figures, &row, |_| first.cloned());
        verdicts.push(Verdict::at_most(
            format!("{row}, to the fewest"),
            1.1,
            ratios,
        ));
    }
    let row = "DR, established, over cores";
    let ratios = figures.of(row, 1).zip(figures.of(row, 2));
    verdicts.push(Verdict {
        aim: "throughput of two processors, to one's".into(),
        ratios: ratios
            .map(|(one, two)| (2, one.to(two)))
            .into_iter()
            .collect(),
        limit: 1.8,
        at_least: true,
    });
    verdicts
}

/// All verdicts as Markdown.
pub fn table(figures: &Figures) -> String {
    let mut text = String::from("| aim | limit | measured (over) | met |\n|---|---:|---|---|\n");
    for verdict in verdicts(figures) {
        let sign = if verdict.at_least { "≥" } else { "≤" };
        let ratios = verdict.ratios.iter();
        let ratios: Vec<_> = ratios
            .map(|(x, ratio)| format!("{ratio:.2} ({x})"))
            .collect();
        let met = verdict.met().map_or("not measured", page::met);
        let (aim, limit) = (&verdict.aim, verdict.limit);
        let _ = writeln!(
            text,
            "| {aim} | {sign} {limit} | {} | {met} |",
            ratios.join(", ")
        );
    }
    text
}

/// What was measured at scale, judged where there is an aim, as Markdown.
pub fn scale(figures: &Figures) -> String {
    let columns = ["limit", "measured", "met"].map(str::to_owned);
    let find = |what: &str| figures.scale.iter().find(|one| one.what == what);
    let cell = |what: &str, at: usize| {
        let Measured { value, unit, .. } = find(what)?;
        let measured = format!("{} {unit}", page::significant(*value));
        let aim = SCALE.iter().find(|(of, ..)| *of == what);
        match at {
            1 => Some(measured),
            0 => aim.map(|(_, limit, at_least)| {
                let sign = if *at_least { "≥" } else { "≤" };
                format!("{sign} {limit} {unit}")
            }),
            _ => aim.map(|(_, limit, at_least)| {
                let met = if *at_least {
                    value >= limit
                } else {
                    value <= limit
                };
                page::met(met).to_owned()
            }),
        }
    };
    let rows: Vec<_> = figures.scale.iter().map(|one| one.what.as_str()).collect();
    page::table("at scale", &columns, &rows, cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::tests::read;

    #[test]
    fn an_aim_is_met_everywhere_or_not() {
        let chart = "established";
        let text = table(&read(&[
            (chart, "Katran, established", 1, 0, &[125.0]),
            (chart, "Katran, established", 65_536, 1, &[416.0]),
            (chart, "DR, established", 1, 0, &[62.5]),
            (chart, "DR, established", 65_536, 1, &[166.4]),
            (chart, "TUN, established", 1, 0, &[62.9]),
            (chart, "TUN, established", 65_536, 1, &[209.0]),
            (chart, "DR, established, over cores", 1, 2, &[100.0]),
            (chart, "DR, established, over cores", 2, 3, &[55.0]),
        ]));
        let has = |line: &str| assert!(text.contains(line), "{line}\n{text}");
        has("| DR, established, to Katran | ≤ 0.5 | 0.50 (1), 0.40 (65536) | yes |");
        has("| TUN, established, to Katran | ≤ 0.5 | 0.50 (1), 0.50 (65536) | yes |");
        has("| NAT, replies, to Katran | ≤ 0.6 |  | not measured |");
        has("| throughput of two processors, to one's | ≥ 1.8 | 1.82 (2) | yes |");
        let text = table(&read(&[
            ("new", "Katran, new connection", 4096, 0, &[1318.0]),
            ("new", "DR, new connection", 4096, 0, &[292.0]),
        ]));
        for line in [
            "| DR, new connection, to Katran | ≤ 0.5 | 0.22 (4096) | yes |",
            "| DR, new connection, to a Katran just started | ≤ 0.5 | 0.50 (4096) | yes |",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let text = table(&read(&[
            (chart, "Katran, established", 256, 0, &[123.0]),
            (chart, "NAT, replies", 256, 0, &[77.5]),
        ]));
        let line = "| NAT, replies, to Katran | ≤ 0.6 | 0.63 (256) | **no** |";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_has_an_aim_at_scale_is_judged() {
        let json = br#"{"machine": "M", "verified": "", "rows": [], "scale": [
            {"what": "10,000 services of 10 servers restored", "value": 3.21, "unit": "s"},
            {"what": "connections held", "value": 10000000, "unit": "connections"},
            {"what": "memory", "value": 4.5678, "unit": "GiB"}]}"#;
        let wanted = "| at scale | limit | measured | met |\n|---|---:|---:|---:|\n\
            | 10,000 services of 10 servers restored | ≤ 3 s | 3.21 s | **no** |\n\
            | connections held | ≥ 10000000 connections | 10000000 connections | yes |\n\
            | memory | – | 4.57 GiB | – |\n";
        assert_eq!(scale(&Figures::read(json).unwrap()), wanted);
    }
}
