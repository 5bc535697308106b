//! The documents name things that exist.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The chapters that are there, but for the summary, which may announce others:
/// mdbook makes those that are missing.
fn chapters() -> impl Iterator<Item = PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    docs.filter(|path| {
        path.extension().is_some_and(|extension| extension == "md") && !path.ends_with("SUMMARY.md")
    })
}

/// The text between each pair of marks.
fn between<'t>(text: &'t str, open: &'t str, close: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|own| own == word)
}

#[test]
fn every_chapter_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for chapter in chapters() {
        let name = chapter.file_name().unwrap().to_str().unwrap();
        assert!(summary.contains(&format!("({name})")), "{name} is not in SUMMARY.md");
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut files = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    files.extend(chapters());
    let mut links = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for link in between(&text, "](", ")").filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", file.display());
            if !heading.is_empty() {
                let headings: Vec<String> = fs::read_to_string(&target)
                    .unwrap()
                    .lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .map(|line| line.trim_start_matches('#').trim().to_lowercase())
                    .map(|line| line.replace(' ', "-").replace(['`', '\'', ','], ""))
                    .collect();
                assert!(
                    headings.iter().any(|own| own == heading),
                    "{}: {link} has no such heading, but {headings:?}",
                    file.display()
                );
            }
            links += 1;
        }
    }
    assert!(links > 20, "the links were not found");
}

/// `path.rs::item` stands for an item, a field, a variant or a note in a file of
/// rpc-core.
#[test]
fn what_corresponds_to_the_haskell_module_exists() {
    let text = fs::read_to_string(root().join("docs/correspondence.md")).unwrap();
    let mut checked = 0;
    for code in text.split('`').skip(1).step_by(2) {
        let Some((path, item)) = code.split_once(".rs::") else { continue };
        let file = root().join("rpc-core/src").join(format!("{path}.rs"));
        let source = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{code}: no such file"));
        let found =
            if item.starts_with("Note") { source.contains(item) } else { has_word(&source, item) };
        assert!(found, "{code}: not there");
        checked += 1;
    }
    assert!(checked > 200, "only {checked} references were found");
}
