//! The README says what was measured.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

/// The rows of the README's comparison, with the figure of `docs/performance.md` that each
/// is taken from, and whether less of it is better.
const ROWS: [(&str, &str, bool); 4] = [
    ("calls in a second, one at a time", "ping_us_p50", true),
    ("calls in a second, 128 at a time", "pipelined_w128_calls_per_s", false),
    ("calls in a second, 1024 at a time", "pipelined_w1024_calls_per_s", false),
    ("bytes in a second, in chunks of 64 KiB", "stream64k_MBps", false),
];

/// The README's columns, and those of `docs/performance.md`.
const COLUMNS: [(&str, &str); 4] = [
    ("C++ 1.3", "ours/C++ 1.3"),
    ("capnp-rpc (Rust)", "ours/capnp-rpc"),
    ("ttrpc", "ours/ttrpc"),
    ("tonic", "ours/tonic"),
];

/// The cells of a table's line.
fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// The first table that has this text in its head: the head and the rows.
fn table<'t>(text: &'t str, head: &str) -> (Vec<&'t str>, Vec<Vec<&'t str>>) {
    let mut lines = text.lines().skip_while(|line| !(line.starts_with('|') && line.contains(head)));
    let head = cells(lines.next().expect("the table is there"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    (head, rows.map(cells).collect())
}

fn cell<'t>((head, rows): &(Vec<&'t str>, Vec<Vec<&'t str>>), row: &str, column: &str) -> &'t str {
    let column = head.iter().position(|name| *name == column).expect(column);
    rows.iter().find(|cells| cells[0] == row).expect(row)[column]
}

/// With two digits that count.
fn short(ratio: f64) -> String {
    if ratio < 1.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}

#[test]
fn the_comparison_in_the_readme_is_that_of_the_chapter_on_performance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let chapter = fs::read_to_string(root.join("docs/performance.md")).unwrap();
    let (_, unix) = chapter.split_once("### Unix sockets\n").expect("the figures are there");
    let (shown, measured) = (table(&readme, "this library beside"), table(unix, "| figure |"));
    assert_eq!(shown.0[1..], COLUMNS.map(|(shown, _)| shown));
    assert_eq!(shown.1.len(), ROWS.len());
    for (row, figure, less_is_better) in ROWS {
        for (column, peer) in COLUMNS {
            let median = cell(&measured, figure, peer);
            let (median, _) = median.split_once(" (").expect("a median and its range");
            let ratio: f64 = median.parse().unwrap();
            let ratio = if less_is_better { 1.0 / ratio } else { ratio };
            assert_eq!(cell(&shown, row, column), short(ratio), "{row}, {column}: {median}");
        }
    }
}
