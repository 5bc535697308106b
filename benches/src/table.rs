//! What was measured, and what is printed of it.

use std::fmt;

use crate::figures::Line;

/// The figures of every peer in every round.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    name: String,
    peers: Vec<String>,
    rows: Vec<Row>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    figure: String,
    /// By peer, then by round.
    values: Vec<Vec<f64>>,
}

/// Values of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest one.
    pub least: f64,
    /// The largest one.
    pub greatest: f64,
}

impl Table {
    /// For these peers, the first of which is compared with the others. The name tells
    /// this table from others of the same run.
    pub fn new(name: impl Into<String>, peers: Vec<String>) -> Self {
        Table { name: name.into(), peers, rows: Vec::new() }
    }

    /// What tells it from others.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who was measured.
    pub fn peers(&self) -> &[String] {
        &self.peers
    }

    /// The figures, in the order in which they came.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Enters what a peer achieved in a round. Rounds come in order.
    pub fn add(&mut self, peer: usize, round: usize, line: &Line) {
        let known = self.rows.iter().position(|row| row.figure == line.name);
        let index = known.unwrap_or_else(|| {
            let values = vec![Vec::new(); self.peers.len()];
            self.rows.push(Row { figure: line.name.clone(), values });
            self.rows.len() - 1
        });
        let values = &mut self.rows[index].values[peer];
        debug_assert_eq!(values.len(), round, "a peer prints each figure once");
        values.push(line.value);
    }

    /// The ratios of one peer to another at a figure, round by round. None if one of
    /// them has no such figure.
    pub fn ratio(&self, figure: &str, peer: &str, other: &str) -> Option<Spread> {
        let index = |name: &str| self.peers.iter().position(|peer| peer == name);
        let row = self.rows.iter().find(|row| row.figure == figure)?;
        row.ratio(index(peer)?, index(other)?)
    }

    /// What a peer achieved at a figure. None if it has no such figure.
    pub fn spread(&self, figure: &str, peer: &str) -> Option<Spread> {
        let peer = self.peers.iter().position(|name| name == peer)?;
        let row = self.rows.iter().find(|row| row.figure == figure)?;
        Spread::of(&row.values[peer])
    }
}

/// Two tables in Markdown: what each peer achieved, and the ratios of the first peer to
/// each of the others; each the median over the rounds, with the least and the
/// greatest.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.peers.split_first() else { return Ok(()) };
        let mut lines = vec![heading(["figure", "better"], self.peers.clone())];
        lines.extend(self.rows.iter().map(|row| {
            let values = row.values.iter().map(|values| Spread::of(values));
            cells([&row.figure, row.better()], values)
        }));
        markdown(f, &lines)?;
        if others.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let ratios = others.iter().map(|other| format!("{first}/{other}")).collect();
        let mut lines = vec![heading(["figure", "better"], ratios)];
        lines.extend(self.rows.iter().filter(|row| !row.values[0].is_empty()).map(|row| {
            let ratios = (1..self.peers.len()).map(|other| row.ratio(0, other));
            cells([&row.figure, row.better()], ratios)
        }));
        markdown(f, &lines)
    }
}

fn heading(first: [&str; 2], others: Vec<String>) -> Vec<String> {
    first.map(str::to_owned).into_iter().chain(others).collect()
}

fn cells(first: [&str; 2], others: impl Iterator<Item = Option<Spread>>) -> Vec<String> {
    let others = others.map(|spread| spread.map_or("–".to_owned(), |spread| spread.to_string()));
    heading(first, others.collect())
}

/// A table of these lines, the first of which is the heading.
///
/// # Errors
/// The output fails.
pub fn markdown(f: &mut impl fmt::Write, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3)
    };
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            write!(f, "| {cell:<width$} ", width = width(column))?;
        }
        writeln!(f, "|")?;
        if number == 0 {
            for column in 0..columns {
                write!(f, "| {:-<width$} ", "", width = width(column))?;
            }
            writeln!(f, "|")?;
        }
    }
    Ok(())
}

impl Row {
    /// With the unit in it.
    pub fn figure(&self) -> &str {
        &self.figure
    }

    /// By peer, then by round. Empty for a peer that has no such figure.
    pub fn values(&self) -> &[Vec<f64>] {
        &self.values
    }

    /// Whether `more` or `less` of it is better.
    pub fn better(&self) -> &'static str {
        let more = self.figure.ends_with("_per_s") || self.figure.ends_with("MBps");
        if more { "more" } else { "less" }
    }

    fn ratio(&self, peer: usize, other: usize) -> Option<Spread> {
        let pairs = self.values[peer].iter().zip(&self.values[other]);
        let ratios: Vec<f64> = pairs.map(|(own, other)| own / other).collect();
        Spread::of(&ratios)
    }
}

impl Spread {
    /// Of these values; none if there are none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        let greatest = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Spread { median: median(values), least, greatest })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, least, greatest] = [self.median, self.least, self.greatest].map(readable);
        if least == greatest {
            write!(f, "{median}")
        } else {
            write!(f, "{median} ({least}–{greatest})")
        }
    }
}

/// The middle one, or the middle of the two middle ones.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

/// Three digits that count.
pub fn readable(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_medians_of_the_rounds_ratios() {
        let mut table = Table::new("unix", vec!["ours".into(), "raw".into(), "idle".into()]);
        for (round, (ours, raw)) in [(10, 5), (30, 5), (80, 20)].into_iter().enumerate() {
            table.add(0, round, &format!("ping_us_p50 {ours}").parse().unwrap());
            table.add(1, round, &format!("ping_us_p50 {raw}").parse().unwrap());
        }
        let text = table.to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[0], ["", "figure", "better", "ours", "raw", "idle", ""]);
        let values = "30.0 (10.0–80.0)";
        assert_eq!(lines[2], ["", "ping_us_p50", "less", values, "5.00 (5.00–20.0)", "–", ""]);
        assert_eq!(lines[4], ["", "figure", "better", "ours/raw", "ours/idle", ""]);
        assert_eq!(lines[6], ["", "ping_us_p50", "less", "4.00 (2.00–6.00)", "–", ""]);
        assert_eq!(table.ratio("ping_us_p50", "ours", "idle"), None);
        let inverse = table.ratio("ping_us_p50", "raw", "ours").unwrap();
        assert!((inverse.median - 0.25).abs() < 1e-9);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median() {
        assert!((median(&[4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
    }
}
