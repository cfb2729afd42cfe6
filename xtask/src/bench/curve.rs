//! The curves: cost against flows, servers, services; throughput against processors.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use super::figures::Figures;

/// A picture: its file, what it shows, what its axes count, its rows.
struct Curve {
    file: &'static str,
    title: &'static str,
    axis: &'static str,
    rows: &'static [&'static str],
}

const CURVES: [Curve; 4] = [
    Curve {
        file: "flows.svg",
        title: "established packets, over flows",
        axis: "flows",
        rows: &[
            "DR, established",
            "TUN, established",
            "NAT, established",
            "NAT, replies",
            "FULLNAT, established",
            "DR IPv6, established",
        ],
    },
    Curve {
        file: "new.svg",
        title: "new connections, over how many are opened",
        axis: "opened",
        rows: &[
            "DR, new connection",
            "TUN, new connection",
            "NAT, new connection",
            "FULLNAT, new connection",
        ],
    },
    Curve {
        file: "servers.svg",
        title: "65,536 flows, over servers",
        axis: "servers",
        rows: &[
            "DR, new connection, over servers",
            "DR, established, over servers",
        ],
    },
    Curve {
        file: "services.svg",
        title: "65,536 flows, over services",
        axis: "services",
        rows: &[
            "DR, new connection, over services",
            "DR, established, over services",
        ],
    },
];

/// Draws all of them into `directory`; the Markdown that shows them.
pub fn draw(figures: &Figures, directory: &Path) -> Result<String> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let mut text = String::new();
    let cost = |row: &str| {
        let figures = figures.row(row).into_iter();
        figures.map(|(x, cost)| (x, cost.ns)).collect()
    };
    for curve in &CURVES {
        let rows: Vec<_> = curve.rows.iter().map(|row| (*row, cost(row))).collect();
        let name = (curve.title, curve.axis, "ns per packet");
        picture(&directory.join(curve.file), name, &rows)?;
        text += &format!("![{}](benchmarks/{})\n", curve.title, curve.file);
    }
    // Millions of packets a second, of all processors together.
    let row = "DR, established, over cores";
    let throughput = figures.row(row).into_iter();
    let throughput = throughput
        .map(|(cores, cost)| (cores, 1000.0 / cost.ns))
        .collect();
    let name = (
        "established packets of 65,536 flows",
        "processors",
        "million packets a second",
    );
    picture(&directory.join("cores.svg"), name, &[(row, throughput)])?;
    Ok(text + "![throughput over processors](benchmarks/cores.svg)\n")
}

type Rows<'a> = [(&'a str, Vec<(u32, f64)>)];

fn picture(file: &Path, (title, x, y): (&str, &str, &str), rows: &Rows<'_>) -> Result<()> {
    let drawn = paint(file, (title, x, y), rows);
    drawn.map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

fn paint(
    file: &Path,
    (title, x, y): (&str, &str, &str),
    rows: &Rows<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || rows.iter().flat_map(|(_, points)| points);
    let least = points()
        .map(|(x, _)| f64::from(*x))
        .fold(f64::MAX, f64::min);
    let most = points().map(|(x, _)| f64::from(*x)).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
    let root = SVGBackend::new(file, (760, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d((least.min(most / 2.0)..most).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.*}", usize::from(top < 20.0)))
        .max_light_lines(0)
        .draw()?;
    for (at, (name, points)) in rows.iter().enumerate() {
        let color = Palette99::pick(at).to_rgba();
        let points = points.iter().map(|(x, y)| (f64::from(*x), *y));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::tests::read;

    #[test]
    fn every_curve_names_its_rows() {
        let names = CURVES.iter().flat_map(|curve| curve.rows);
        let names = names.chain(["DR, established, over cores"].iter());
        let rows = names.flat_map(|name| {
            let row = |x, ns| ("", *name, x, 0, ns);
            [row(1, &[1.5][..]), row(2, &[2.5])]
        });
        let figures = read(&rows.collect::<Vec<_>>());
        let directory =
            std::env::temp_dir().join(format!("pointsman-curves-{}", std::process::id()));
        let text = draw(&figures, &directory).unwrap();
        for curve in &CURVES {
            let svg = fs::read_to_string(directory.join(curve.file)).unwrap();
            assert!(
                curve.rows.iter().all(|row| svg.contains(row)),
                "{}",
                curve.file
            );
            assert!(text.contains(curve.file));
        }
        assert!(
            fs::read_to_string(directory.join("cores.svg"))
                .unwrap()
                .contains("million")
        );
        fs::remove_dir_all(directory).unwrap();
    }
}
