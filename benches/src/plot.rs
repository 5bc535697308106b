//! Pictures of what was measured.
//!
//! Peers differ by factors of ten and more, and what counts are ratios. So each figure
//! has a logarithmic scale, on which equal ratios are equal distances, with a point at
//! each peer's median and a line from its least value to its greatest.

use std::fmt::Write as _;

use crate::figures::number;
use crate::table::{Row, Spread, Table, readable};

/// Everything in pixels.
const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 450.0;
const MARGIN: f64 = 14.0;
/// Room for a figure's name.
const HEAD: f64 = 30.0;
/// One peer.
const LINE: f64 = 19.0;
/// The scale's numbers.
const FOOT: f64 = 34.0;
/// Room for the peers' names, left of the scale, and for the medians, right of it.
const NAMES: f64 = 116.0;
const MEDIANS: f64 = 66.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#333}.name{font-weight:bold}\
    .scale{font-size:10px;fill:#777}.end{text-anchor:end}.middle{text-anchor:middle}\
    .grid{stroke:#e4e4e4}.range{stroke:#8a8a8a;stroke-width:2}.point{fill:#555}\
    .first .range{stroke:#1f6feb}.first .point{fill:#1f6feb}.first text{fill:#1f6feb}";

/// Draws each figure of a table. The table's first peer stands out.
pub fn svg(table: &Table) -> String {
    let heights: Vec<f64> = table
        .rows()
        .chunks(COLUMNS)
        .map(|rows| rows.iter().map(height).fold(0.0, f64::max))
        .collect();
    let width = PANEL_WIDTH * number(table.rows().len().min(COLUMNS));
    let height: f64 = heights.iter().sum();
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut top = 0.0;
    for (rows, height) in table.rows().chunks(COLUMNS).zip(heights) {
        for (column, row) in rows.iter().enumerate() {
            let left = number(column) * PANEL_WIDTH;
            // Writing to a string does not fail.
            let _ = writeln!(picture, "<g transform=\"translate({left} {top})\">");
            panel(&mut picture, table.peers(), row);
            picture.push_str("</g>\n");
        }
        top += height;
    }
    picture.push_str("</svg>\n");
    picture
}

fn height(row: &Row) -> f64 {
    let peers = row.values().iter().filter(|values| !values.is_empty()).count();
    HEAD + LINE * number(peers) + FOOT
}

/// Draws a figure at the origin.
fn panel(picture: &mut String, peers: &[String], row: &Row) {
    let spreads: Vec<(usize, Spread)> = row
        .values()
        .iter()
        .enumerate()
        .filter_map(|(peer, values)| Some((peer, Spread::of(values)?)))
        .collect();
    let scale = Scale::of(spreads.iter().map(|(_, spread)| *spread));
    let bottom = HEAD + LINE * number(spreads.len());
    let _ = writeln!(
        picture,
        "<text class=\"name\" x=\"{MARGIN}\" y=\"20\">{}</text>\
         <text class=\"scale end\" x=\"{}\" y=\"20\">{} is better</text>",
        escaped(row.figure()),
        PANEL_WIDTH - MARGIN,
        row.better(),
    );
    for mark in scale.marks() {
        let x = scale.x(mark);
        let _ = writeln!(
            picture,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{HEAD}\" y2=\"{bottom}\"/>\
             <text class=\"scale middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            bottom + 13.0,
            short(mark),
        );
    }
    for (line, (peer, spread)) in spreads.iter().enumerate() {
        let y = HEAD + LINE * (number(line) + 0.5);
        let class = if *peer == 0 { "first" } else { "other" };
        let [least, median, greatest] =
            [spread.least, spread.median, spread.greatest].map(|value| scale.x(value));
        let _ = writeln!(
            picture,
            "<g class=\"{class}\"><text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>\
             <line class=\"range\" x1=\"{least:.1}\" x2=\"{greatest:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <circle class=\"point\" cx=\"{median:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
             <text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text></g>",
            MARGIN + NAMES - 10.0,
            y + 4.0,
            escaped(&peers[*peer]),
            PANEL_WIDTH - MARGIN,
            y + 4.0,
            readable(spread.median),
        );
    }
}

/// From one value to a greater one.
struct Scale {
    least: f64,
    greatest: f64,
}

impl Scale {
    fn of(spreads: impl Iterator<Item = Spread>) -> Scale {
        let (mut least, mut greatest) = (f64::INFINITY, 0.0_f64);
        for spread in spreads {
            // What is not above zero has no place on the scale; it stands at its end.
            if spread.least > 0.0 {
                least = least.min(spread.least);
            }
            greatest = greatest.max(spread.greatest);
        }
        if least > greatest {
            (least, greatest) = (1.0, 1.0);
        }
        Scale { least: least / 1.15, greatest: greatest * 1.15 }
    }

    fn x(&self, value: f64) -> f64 {
        let width = PANEL_WIDTH - 2.0 * MARGIN - NAMES - MEDIANS;
        let part = (value.max(self.least) / self.least).ln() / (self.greatest / self.least).ln();
        MARGIN + NAMES + width * part
    }

    /// Round values, not too close to each other.
    fn marks(&self) -> Vec<f64> {
        let decades = (self.greatest / self.least).log10();
        let steps: &[f64] = match decades {
            decades if decades > 2.5 => &[1.0],
            decades if decades > 0.8 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        };
        let mut marks = Vec::new();
        let mut decade = 10_f64.powf(self.least.log10().floor());
        while decade <= self.greatest {
            let values = steps.iter().map(|step| step * decade);
            marks.extend(values.filter(|value| (self.least..=self.greatest).contains(value)));
            decade *= 10.0;
        }
        marks
    }
}

/// A round number in few characters.
fn short(value: f64) -> String {
    // Decades that were multiplied are not quite round.
    let digits = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value {
        value if value >= 999_999.0 => format!("{}M", digits(value / 1e6)),
        value if value >= 9_999.0 => format!("{}k", digits(value / 1e3)),
        value => digits(value),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equal_distances() {
        let mut table = Table::new("unix", ["ours", "C++ <1.3>", "raw"].map(str::to_owned).into());
        for (peer, value) in [1.0, 10.0, 100.0].into_iter().enumerate() {
            table.add(peer, 0, &format!("ping_us_p50 {value}").parse().unwrap());
        }
        table.add(0, 0, &"stream64k_MBps 1500".parse().unwrap());
        let picture = svg(&table);
        let points: Vec<f64> = picture
            .split("cx=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(points.len(), 4);
        assert!(points[0] < points[1]);
        assert!((points[1] - points[0] - (points[2] - points[1])).abs() < 0.11, "{points:?}");
        assert!(picture.contains("C++ &lt;1.3>"));
        assert_eq!(picture.matches("less is better").count(), 1);
        assert_eq!(picture.matches("more is better").count(), 1);
    }

    #[test]
    fn scales_have_a_few_marks_of_few_digits() {
        for (least, greatest) in [(1.3, 1.9), (7.0, 31.0), (0.02, 40.0), (51_234.0, 11_000_000.0)] {
            let spread = Spread { median: least, least, greatest };
            let marks = Scale::of([spread].into_iter()).marks();
            assert!((2..=10).contains(&marks.len()), "{marks:?}");
            assert!(marks.iter().all(|mark| short(*mark).len() <= 5), "{marks:?}");
        }
        let nothing = Scale::of([Spread { median: 0.0, least: 0.0, greatest: 0.0 }].into_iter());
        assert!(nothing.x(0.0).is_finite());
    }
}
