//! What a run measured, kept in a file: every value of every round, and pictures of
//! them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::figures::Line;
use crate::table::Table;
use crate::{Failure, Result, plot};

/// The first line of a file.
const COLUMNS: &str = "table,figure,peer,round,value";

/// Writes `FOLDER/NAME.csv`, and for each table `FOLDER/NAME-TABLE.svg`.
///
/// # Errors
/// The files cannot be written.
pub fn write(folder: &Path, name: &str, tables: &[Table]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let text = to_csv(tables);
    fs::write(folder.join(name).with_extension("csv"), &text)?;
    for (file, picture) in pictures(name, &text)? {
        fs::write(folder.join(file), picture)?;
    }
    Ok(())
}

/// The pictures of a file's tables, with the names of their files.
///
/// # Errors
/// The text is not such a file.
pub fn pictures(name: &str, csv: &str) -> Result<Vec<(String, String)>> {
    let tables = from_csv(csv)?;
    Ok(tables
        .iter()
        .map(|table| (format!("{name}-{}.svg", table.name()), plot::svg(table)))
        .collect())
}

/// One line for each value. No name has a comma.
fn to_csv(tables: &[Table]) -> String {
    let mut text = format!("{COLUMNS}\n");
    for table in tables {
        for row in table.rows() {
            for (peer, values) in table.peers().iter().zip(row.values()) {
                for (round, value) in values.iter().enumerate() {
                    let (table, figure) = (table.name(), row.figure());
                    // Writing to a string does not fail.
                    let _ = writeln!(text, "{table},{figure},{peer},{round},{value}");
                }
            }
        }
    }
    text
}

/// Peers come in the order of their first values.
fn from_csv(text: &str) -> Result<Vec<Table>> {
    let wrong = |line: &str| Failure::from(format!("{line:?} is no line of a record"));
    let mut lines = text.lines();
    if lines.next() != Some(COLUMNS) {
        return Err(format!("a record begins with {COLUMNS:?}").into());
    }
    let mut entries = Vec::new();
    let mut names: Vec<(&str, Vec<String>)> = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [table, figure, peer, round, value] = fields[..] else { return Err(wrong(line)) };
        let number = names.iter().position(|(name, _)| *name == table).unwrap_or_else(|| {
            names.push((table, Vec::new()));
            names.len() - 1
        });
        let peers = &mut names[number].1;
        if !peers.iter().any(|known| known == peer) {
            peers.push(peer.to_owned());
        }
        let value: Line = format!("{figure} {value}").parse()?;
        let round: usize = round.parse().map_err(|_| wrong(line))?;
        entries.push((number, peer, round, value));
    }
    let mut tables: Vec<Table> =
        names.into_iter().map(|(name, peers)| Table::new(name, peers)).collect();
    for (number, peer, round, value) in entries {
        let table = &mut tables[number];
        let peer = table.peers().iter().position(|name| name == peer).unwrap_or_default();
        table.add(peer, round, &value);
    }
    Ok(tables)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tables() -> Vec<Table> {
        let mut unix = Table::new("unix", vec!["ours".into(), "C++ 1.3".into()]);
        let mut tcp = Table::new("tcp", vec!["ours".into()]);
        for round in 0..2 {
            for peer in 0..2 {
                unix.add(peer, round, &format!("ping_us_p50 {}.5", peer + round).parse().unwrap());
            }
            tcp.add(0, round, &"chain10_us 1.25".parse().unwrap());
        }
        vec![unix, tcp]
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "run", &tables()).unwrap();
        let text = fs::read_to_string(folder.path().join("run.csv")).unwrap();
        assert_eq!(to_csv(&from_csv(&text).unwrap()), text);
        assert_eq!(text.lines().count(), 1 + 4 + 2);
        for file in ["run-unix.svg", "run-tcp.svg"] {
            assert!(fs::read_to_string(folder.path().join(file)).unwrap().contains("</svg>"));
        }
    }

    /// `UPDATE_PLOTS=1` draws them anew.
    #[test]
    fn the_pictures_of_the_documentation_are_of_its_values() {
        let update = std::env::var_os("UPDATE_PLOTS").is_some_and(|value| value == "1");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
        for name in ["compare", "many"] {
            let text = fs::read_to_string(folder.join(name).with_extension("csv")).unwrap();
            let pictures = pictures(name, &text).unwrap();
            assert!(!pictures.is_empty());
            for (file, picture) in pictures {
                if update {
                    fs::write(folder.join(&file), &picture).unwrap();
                }
                assert_eq!(fs::read_to_string(folder.join(&file)).unwrap(), picture, "{file}");
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in ["", "a,b\n", &format!("{COLUMNS}\nunix,ping,ours,0\n")] {
            assert!(from_csv(text).is_err(), "{text}");
        }
    }
}
