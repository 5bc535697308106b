//! What was measured, and what is printed of it.

use std::fmt;

use crate::figures::Line;

/// The figures of every peer in every round.
#[derive(Debug)]
pub struct Table {
    peers: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    figure: String,
    /// By peer, then by round.
    values: Vec<Vec<f64>>,
}

impl Table {
    /// For these peers, the first of which is compared with the others.
    pub fn new(peers: Vec<String>) -> Self {
        Table { peers, rows: Vec::new() }
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
}

/// As Markdown. Ratios are those of the first peer to each of the others: the
/// median over the rounds, with the least and the greatest.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.peers.split_first() else { return Ok(()) };
        let mut head = vec!["figure".to_owned(), "better".to_owned()];
        head.extend(self.peers.iter().cloned());
        head.extend(others.iter().map(|other| format!("{first}/{other}")));
        let rows = self.rows.iter().map(|row| {
            let mut cells = vec![row.figure.clone(), better(&row.figure).to_owned()];
            cells.extend(row.values.iter().map(|values| readable(median(values))));
            cells.extend((1..self.peers.len()).map(|other| row.ratio(other)));
            cells
        });
        let rule = head.iter().map(|_| "---".to_owned()).collect();
        let lines: Vec<Vec<String>> = [head, rule].into_iter().chain(rows).collect();
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        for line in &lines {
            for (column, cell) in line.iter().enumerate() {
                write!(f, "| {cell:<width$} ", width = width(column))?;
            }
            writeln!(f, "|")?;
        }
        Ok(())
    }
}

impl Row {
    fn ratio(&self, other: usize) -> String {
        let mut ratios: Vec<f64> = self.values[0]
            .iter()
            .zip(&self.values[other])
            .map(|(own, other)| own / other)
            .collect();
        let median = median(&ratios);
        ratios.sort_unstable_by(f64::total_cmp);
        match ratios[..] {
            [least, .., greatest] => {
                let [median, least, greatest] = [median, least, greatest].map(readable);
                format!("{median} ({least}–{greatest})")
            }
            _ => readable(median),
        }
    }
}

fn better(figure: &str) -> &'static str {
    if figure.ends_with("_per_s") || figure.ends_with("MBps") { "more" } else { "less" }
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
fn readable(value: f64) -> String {
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
        let mut table = Table::new(vec!["ours".into(), "raw".into()]);
        for (round, (ours, raw)) in [(10, 5), (30, 5), (80, 20)].into_iter().enumerate() {
            table.add(0, round, &format!("ping_us_p50 {ours}").parse().unwrap());
            table.add(1, round, &format!("ping_us_p50 {raw}").parse().unwrap());
        }
        let text = table.to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[0], ["", "figure", "better", "ours", "raw", "ours/raw", ""]);
        let cells = ["", "ping_us_p50", "less", "30.0", "5.00", "4.00 (2.00–6.00)", ""];
        assert_eq!(lines[2], cells);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median() {
        assert!((median(&[4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
    }
}
