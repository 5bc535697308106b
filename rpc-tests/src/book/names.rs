//! The documents name things that exist.
#![allow(clippy::unwrap_used, clippy::expect_used)]

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

/// The sources of the crates that a chapter may speak of.
fn sources() -> Vec<String> {
    fn collect(folder: &Path, sources: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut sources = Vec::new();
    for krate in [".", "rpc-core", "rpc-transport", "rpc-endpoint", "rpc-persist", "rpc-codegen"] {
        collect(&root().join(krate).join("src"), &mut sources);
    }
    add_what_macros_make(&mut sources.iter_mut().collect::<Vec<_>>());
    sources
}

/// Adds methods that a macro makes to the files that use the macro.
fn add_what_macros_make(sources: &mut [&mut String]) {
    let mut macros = Vec::new();
    for source in &*sources {
        for (at, start) in source.match_indices("macro_rules! ") {
            let (name, body) = source[at + start.len()..].split_once(" {").unwrap();
            let body = body.split("\n}\n").next().unwrap();
            if body.contains("        pub fn ") {
                macros.push((format!("    {name}!("), body.to_owned()));
            }
        }
    }
    for source in sources {
        for (use_of, body) in &macros {
            if source.contains(use_of) {
                source.push_str(body);
            }
        }
    }
}

/// Whether a file has something to say about a type: defines it, or implements it.
fn is_about(source: &str, name: &str) -> bool {
    ["struct", "enum", "trait", "type", "impl", "for"].iter().any(|before| {
        let found = format!("{before} {name}");
        source.match_indices(&found).any(|(at, _)| {
            let next = source[at + found.len()..].chars().next();
            next.is_some_and(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

/// `Type::item` in the guide is a method, a field or a variant of one of our types.
/// (What is in blocks of code is compiled.)
#[test]
fn what_the_guide_names_exists() {
    let sources = sources();
    // These name what other libraries have, and are looked at below.
    let is_about_others = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("correspondence") || name == "coming-from.md"
    };
    let mut files: Vec<PathBuf> = chapters().filter(|path| !is_about_others(path)).collect();
    files.push(root().join("README.md"));
    let mut checked = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Every second piece is within a block.
        let prose = text.split("```").step_by(2);
        for code in prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)) {
            let Some((name, item)) = code.rsplit_once("::") else { continue };
            // What is around it, as in `Ok(Passage::Through)`, is not ours.
            let name = name.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
                continue;
            }
            let end = item.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(item.len());
            let item = &item[..end];
            let mut about = sources.iter().filter(|source| is_about(source, name));
            let found = if item.is_empty() {
                about.next().is_some()
            } else {
                about.any(|source| has_word(source, item))
            };
            assert!(found, "{}: `{code}` is not there", file.display());
            checked += 1;
        }
    }
    assert!(checked > 80, "only {checked} names were found");
}

/// A file of Rust.
struct Source {
    /// The folder that its module is in.
    folder: String,
    /// Its module.
    module: String,
    text: String,
}

/// The sources below a folder of this workspace, but for generated ones.
fn sources_below(folder: &str) -> Vec<Source> {
    fn name(path: &Path) -> String {
        path.file_stem().unwrap().to_str().unwrap().to_owned()
    }
    fn collect(folder: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("generated") {
                // Nothing that was written here is in it.
            } else if path.is_dir() {
                collect(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let named_by = if path.ends_with("mod.rs") { folder } else { &path };
                let (folder, module) = (name(named_by.parent().unwrap()), name(named_by));
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source { folder, module, text });
            }
        }
    }
    let mut sources = Vec::new();
    collect(&root().join(folder), &mut sources);
    add_what_macros_make(
        &mut sources.iter_mut().map(|source| &mut source.text).collect::<Vec<_>>(),
    );
    sources
}

/// Whether this source defines an item that belongs to no type.
fn defines(source: &str, name: &str) -> bool {
    const KINDS: [&str; 8] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "macro_rules!"];
    KINDS.iter().any(|kind| has_words(source, &format!("{kind} {name}")))
        // What a macro of ours makes.
        || source.lines().any(|line| line == format!("    {name}"))
}

/// Whether this is in the text, and not only as a part of longer words.
fn has_words(text: &str, words: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(words).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + words.len()..].starts_with(is_part)
    })
}

/// What a chapter says is here, whether it is called `item`, `Type::item`, `module`,
/// `module::item`, `module::Type::item` or `Note [item]`, is below these folders,
/// whatever the file. Returns how many of them there are.
fn check_items(text: &str, folders: &[&str]) -> usize {
    /// What is of the standard library, of the wire, of the file that is compared, or a
    /// crate.
    const NOT_OURS: [&str; 22] = [
        "Arc",
        "Clone",
        "Debug",
        "Display",
        "Drop",
        "PartialEq",
        "Weak",
        "std::error::Error",
        "canceled",
        "none",
        "sendResultsTo",
        "remote exception: ",
        "Dead",
        "ExportMap",
        "cbCallReturn",
        "messageLoop",
        "ErrorEvent",
        "crossed",
        "resolved",
        "transportState",
        "capnp-threads-persist",
        "capnp-threads-transport",
    ];
    let body = text.split("\n## Every name\n").next().unwrap();
    let sources: Vec<Source> = folders.iter().flat_map(|folder| sources_below(folder)).collect();
    let mut checked = 0;
    for row in body.lines().filter_map(cells) {
        let codes = row[1..].iter().flat_map(|cell| between_ticks(cell));
        for code in codes.filter(|code| !NOT_OURS.contains(&code.as_str())) {
            let parts: Vec<&str> = code.split("::").collect();
            let found = sources.iter().any(|Source { module, text, .. }| match parts.as_slice() {
                [note] if note.starts_with("Note [") => text.contains(note),
                [item] => module == item || defines(text, item),
                [of, item] => {
                    is_about(text, of) && has_word(text, item)
                        || module == of && defines(text, item)
                }
                [within, of, item] => {
                    module == within && is_about(text, of) && has_word(text, item)
                }
                _ => false,
            });
            assert!(found, "`{code}` is not in {folders:?}: {row:?}");
            checked += 1;
        }
    }
    checked
}

/// Under **here**, in the last column, nothing is named that is not there.
#[test]
fn what_those_who_come_from_elsewhere_are_told_of_exists() {
    let text = fs::read_to_string(root().join("docs/coming-from.md")).unwrap();
    let sources = sources();
    let (mut here, mut checked) = (false, 0);
    for line in text.lines() {
        let Some(row) = cells(line) else {
            here = false;
            continue;
        };
        let last = row.last().unwrap();
        if *last == "here" {
            here = true;
        } else if here {
            for code in between_ticks(last) {
                let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
                for word in words.filter(|word| word.len() > 2) {
                    let found = sources.iter().any(|source| has_word(source, word));
                    assert!(found, "`{code}`: there is no {word}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100, "only {checked} words were found");
}

#[test]
fn what_corresponds_to_the_haskell_module_exists() {
    let text = fs::read_to_string(root().join("docs/correspondence.md")).unwrap();
    let checked = check_items(&text, &["rpc-core/src"]);
    assert!(checked > 200, "only {checked} references were found");
}

#[test]
fn what_corresponds_to_network_transport_tcp_exists() {
    let text = fs::read_to_string(root().join("docs/correspondence-endpoints.md")).unwrap();
    let folders = ["rpc-endpoint/src", "rpc-tests/tests", "rpc-transport/src"];
    let checked = check_items(&text, &folders);
    assert!(checked > 150, "only {checked} references were found");
}

#[test]
fn what_corresponds_to_the_cxx_file_exists() {
    let text = fs::read_to_string(root().join("docs/correspondence-cxx.md")).unwrap();
    let checked = check_items(&text, &["rpc-core/src"]);
    assert!(checked > 200, "only {checked} references were found");
}

/// `folder::file::function` in the chapter stands for a test, or for a behaviour of the
/// conformance program that is in its list.
#[test]
fn every_test_of_the_conformance_chapter_is_there_and_run() {
    let text = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let folders = ["rpc-core/src", "rpc-tests/src", "rpc-tests/tests"];
    let sources: Vec<Source> = folders.iter().flat_map(|folder| sources_below(folder)).collect();
    let (_, tables) = text.split_once("\n## ").unwrap();
    let mut checked = 0;
    for code in between_ticks(tables).into_iter().filter(|code| code.contains("::")) {
        let [folder, module, function] = code.split("::").collect::<Vec<_>>()[..] else {
            panic!("{code} is not `folder::file::function`");
        };
        let definition = format!("fn {function}(");
        let places: Vec<(&Source, Vec<&str>, usize)> = sources
            .iter()
            .filter(|source| (&*source.folder, &*source.module) == (folder, module))
            .filter_map(|source| {
                let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
                let at = lines.iter().position(|line| line.starts_with(&definition))?;
                Some((source, lines, at))
            })
            .collect();
        let [(source, lines, at)] = places.as_slice() else {
            panic!("{code} is there {} times", places.len());
        };
        let attributes = lines[..*at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_test = attributes.clone().any(|line| *line == "#[test]");
        assert!(attributes.clone().all(|line| !line.contains("ignore")), "{code}: is not run");
        let is_behaviour = source.text.contains(&format!("\", {function})"));
        assert!(is_test || is_behaviour, "{code}: is no test");
        checked += 1;
    }
    assert!(checked > 80, "only {checked} tests were found");
    for row in text.lines().filter_map(cells).filter(|row| !row[0].starts_with("---")) {
        assert_eq!(row.len(), 4, "{row:?}");
        let levels: Vec<&str> = row[1].split(", ").collect();
        let known = levels.iter().all(|level| ["W", "R", "P"].contains(level));
        assert!(known || row[1] == "level", "no level: {row:?}");
        assert!(row[2].contains("::") || row[2] == "here", "no test: {row:?}");
        assert!(!row[3].is_empty() || row[1] == "P", "with whom: {row:?}");
    }
}

/// The cells of a row of a table, without the space around them.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// A name of the C++ file: its class, or nothing, and from when to when it is there.
type Name = (String, String, &'static str);

const FROM_TO: [&str; 3] = ["", "0.7", "0.9"];

/// Each name that the last section of the chapter lists.
fn listed_names(section: &str) -> Vec<Name> {
    let rows = section.lines().filter_map(cells).skip(2);
    rows.flat_map(|row| {
        let [class, columns @ ..] = row.as_slice() else { panic!("an empty row") };
        assert_eq!(columns.len(), FROM_TO.len(), "{class}");
        let class = class.trim_matches(['`', '—']).to_owned();
        let column = |(names, when): (&&str, &'static str)| {
            let names: Vec<String> = between_ticks(names);
            let class = class.clone();
            names.into_iter().map(move |name| (class.clone(), name, when)).collect::<Vec<_>>()
        };
        columns.iter().zip(FROM_TO).flat_map(column).collect::<Vec<_>>()
    })
    .collect()
}

fn between_ticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Each name that has a row: in the tables whose second column is `when`.
fn names_with_rows(body: &str) -> Vec<Name> {
    let (mut class, mut in_table, mut names) = (String::new(), false, Vec::new());
    for line in body.lines() {
        if let Some(heading) = line.trim_start_matches('#').strip_prefix(' ')
            && line.starts_with('#')
        {
            class = between_ticks(heading).pop().unwrap_or_default();
        }
        let Some(row) = cells(line) else {
            in_table = false;
            continue;
        };
        match row.as_slice() {
            [_, "when", ..] => in_table = true,
            [there, when, here, _] if in_table && !there.starts_with("---") => {
                let when = FROM_TO.into_iter().find(|known| known == when);
                let when = when.unwrap_or_else(|| panic!("unknown release: {line}"));
                assert!(!here.is_empty(), "not said where it is: {line}");
                names.extend(
                    between_ticks(there).into_iter().map(|name| (class.clone(), name, when)),
                );
            }
            _ => {}
        }
    }
    names
}

#[test]
fn every_name_of_the_cxx_file_has_its_row() {
    let text = fs::read_to_string(root().join("docs/correspondence-cxx.md")).unwrap();
    let (body, list) = text.split_once("\n## Every name\n").unwrap();
    let (mut listed, mut rows) = (listed_names(list), names_with_rows(body));
    assert!(listed.len() > 250, "only {} names are listed", listed.len());
    for names in [&mut listed, &mut rows] {
        names.sort();
        for pair in names.windows(2) {
            assert!(pair[0] != pair[1], "twice: {:?}", pair[0]);
        }
    }
    let missing: Vec<_> = listed.iter().filter(|name| !rows.contains(name)).collect();
    let strange: Vec<_> = rows.iter().filter(|name| !listed.contains(name)).collect();
    assert!(missing.is_empty() && strange.is_empty(), "no row: {missing:?}\nno name: {strange:?}");
}

/// A comment that is a note's name and nothing else begins the note. Every other mention
/// of the name refers to it, in comments and in the chapters.
#[test]
fn every_note_that_is_referred_to_is_written_once() {
    let mut texts: Vec<String> = chapters().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut notes = Vec::new();
    for folder in ["rpc-core", "rpc-transport", "rpc-endpoint", "rpc-persist", "rpc-codegen"] {
        for source in sources_below(&format!("{folder}/src")) {
            let mut text = String::new();
            for line in source.text.lines().map(str::trim) {
                let prose = line.trim_start_matches(['/', '!']).trim();
                match prose.strip_prefix("Note [").and_then(|rest| rest.strip_suffix(']')) {
                    Some(name) if line.starts_with("//! ") || line.starts_with("// ") => {
                        notes.push(name.to_owned());
                    }
                    _ => text = text + prose + " ",
                }
            }
            texts.push(text);
        }
    }
    notes.sort();
    assert!(notes.len() > 20, "only {notes:?} were found");
    assert!(notes.windows(2).all(|pair| pair[0] != pair[1]), "one name for two notes: {notes:?}");
    let mut mentions = 0;
    for text in texts.iter().map(|text| text.replace('\n', " ")) {
        for name in between(&text, "Note [", "]").filter(|name| *name != "name" && *name != "item")
        {
            let is_known = notes.iter().any(|own| own == name)
                // The chapters compare the notes of haskell-capnp.
                || text.contains(&format!("| Note [{name}]"));
            assert!(is_known, "Note [{name}] is not there");
            mentions += 1;
        }
    }
    assert!(mentions > 100, "only {mentions} mentions were found");
}
