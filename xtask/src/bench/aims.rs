//! What the figures are to be, and whether they are.

use std::fmt::Write;

use super::figures::Figures;

/// Katran's default build, net nanoseconds of an IPv4 TCP packet by the same method on the same kind of
/// machine, not in the same run: of an established flow, over so many.
const KATRAN: [(u32, f64); 4] = [
    (1, 190.0),
    (256, 190.0),
    (65_536, 500.0),
    (1_000_000, 650.0),
];
/// The same of a new flow, with its limit of new flows lifted.
const KATRAN_NEW: [(u32, f64); 3] = [(4096, 480.0), (65_536, 1200.0), (1_000_000, 1590.0)];

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
        let (aim, at_least) = (aim.into(), false);
        Self {
            aim,
            ratios,
            limit,
            at_least,
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
fn against(figures: &Figures, row: &str, base: impl Fn(u32) -> Option<f64>) -> Vec<(u32, f64)> {
    let row = figures.row(row).into_iter();
    row.filter_map(|(x, ns)| Some((x, ns / base(x)?))).collect()
}

fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let at = |table: &'static [(u32, f64)]| {
        move |x: u32| table.iter().find(|(of, _)| *of == x).map(|(_, ns)| *ns)
    };
    let mut verdicts = Vec::new();
    for (row, limit) in [
        ("DR, established", 0.5),
        ("TUN, established", 0.5),
        ("NAT, established", 0.6),
        ("NAT, replies", 0.6),
        ("FULLNAT, established", 0.8),
    ] {
        let ratios = against(figures, row, at(&KATRAN));
        verdicts.push(Verdict::at_most(format!("{row}, to Katran"), limit, ratios));
    }
    let new = "DR, new connection";
    let ratios = against(figures, new, at(&KATRAN_NEW));
    verdicts.push(Verdict::at_most(format!("{new}, to Katran"), 0.5, ratios));
    for (scheduler, servers, limit) in [("sh", 100, 0.5), ("mh", 100, 0.5), ("wlc", 100, 1.0)] {
        let row = format!("new connection by {scheduler}");
        let ns = figures.of(&row, servers);
        // Opened are 65,536.
        let ratios = ns.map(|ns| (servers, ns / KATRAN_NEW[1].1));
        let aim = format!("{row}, to Katran");
        verdicts.push(Verdict::at_most(aim, limit, ratios.into_iter().collect()));
    }
    for (kind, limit) in [(" IPv6", 1.3), (" UDP", 1.1)] {
        for method in ["DR", "TUN", "NAT", "FULLNAT"] {
            let row = format!("{method}{kind}, established");
            let base = format!("{method}, established");
            let ratios = against(figures, &row, |x| figures.of(&base, x));
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
        let ratios = against(figures, &row, |x| figures.of(&base, x));
        verdicts.push(Verdict::at_most(format!("{row}, to XDP"), 1.3, ratios));
    }
    for over in ["servers", "services"] {
        let row = format!("DR, established, over {over}");
        let first = figures.row(&row).first().map(|(_, ns)| *ns);
        let ratios = against(figures, &row, |_| first);
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
            .map(|(one, two)| (2, one / two))
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
        let met = match verdict.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        let (aim, limit) = (&verdict.aim, verdict.limit);
        let _ = writeln!(
            text,
            "| {aim} | {sign} {limit} | {} | {met} |",
            ratios.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &str) -> Figures {
        let json = format!(r#"{{"machine": "M", "verified": "", "rows": [{rows}]}}"#);
        Figures::read(json.as_bytes()).unwrap()
    }

    #[test]
    fn an_aim_is_met_everywhere_or_not() {
        let row = |row: &str, x: u32, ns: f64| {
            format!(r#"{{"chart": "established", "row": "{row}", "x": {x}, "ns": {ns}}}"#)
        };
        let rows = [
            row("DR, established", 1, 95.0),
            row("DR, established", 65_536, 200.0),
            row("TUN, established", 1, 95.9),
            row("TUN, established", 65_536, 251.0),
            row("DR, established, over cores", 1, 100.0),
            row("DR, established, over cores", 2, 55.0),
        ];
        let text = table(&figures(&rows.join(",")));
        let has = |line: &str| assert!(text.contains(line), "{line}\n{text}");
        has("| DR, established, to Katran | ≤ 0.5 | 0.50 (1), 0.40 (65536) | yes |");
        has("| TUN, established, to Katran | ≤ 0.5 | 0.50 (1), 0.50 (65536) | yes |");
        has("| NAT, replies, to Katran | ≤ 0.6 |  | not measured |");
        has("| throughput of two processors, to one's | ≥ 1.8 | 1.82 (2) | yes |");
        let text = table(&figures(&row("NAT, replies", 256, 120.0)));
        let line = "| NAT, replies, to Katran | ≤ 0.6 | 0.63 (256) | **no** |";
        assert!(text.contains(line), "{text}");
    }
}
