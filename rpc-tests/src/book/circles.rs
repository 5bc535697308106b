//! Files that import one another stay few.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::layers::{branches, sources};

/// Maximum number of files of rpc-core that reach each other by imports. Some belong
/// together by nature: a promise resolves to a capability, results hold capabilities, and a
/// call is settled with results.
const LARGEST: usize = 10;

type Module = Vec<String>;

/// The product's modules, with the paths that each of them names, from the crate's root.
struct Imports(BTreeMap<Module, Vec<Module>>);

impl Imports {
    fn of(package: &str) -> Self {
        let sources = sources(package).into_iter();
        Imports(sources.map(|(module, code)| (module.clone(), paths(&module, &code))).collect())
    }

    /// The module that defines what is at the end of a path, which may be a module that
    /// re-exports it from a module of its own.
    fn module_of(&self, path: &[String], depth: usize) -> Option<&Module> {
        let (module, imports) =
            (1..=path.len()).rev().find_map(|length| self.0.get_key_value(&path[..length]))?;
        let name = path.get(module.len());
        let origin = imports.iter().find(|import| {
            import.len() > module.len() + 1 && import.starts_with(module) && import.last() == name
        });
        match origin {
            Some(origin) if depth < 5 => self.module_of(origin, depth + 1),
            _ => Some(module),
        }
    }

    /// The modules that each module imports from.
    fn graph(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let edges = |(module, paths): (_, &Vec<Module>)| {
            let mut others: BTreeSet<_> =
                paths.iter().filter_map(|path| self.module_of(path, 0)).collect();
            others.remove(module);
            (module, others)
        };
        self.0.iter().map(edges).collect()
    }
}

/// The paths that a source names from the crate's root or from a module above its own.
fn paths(module: &[String], code: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = &code[..at];
            // Macros are for other crates, and a visibility imports nothing.
            let inner = |c: char| "$:_".contains(c) || c.is_alphanumeric();
            if before.ends_with(inner) || before.ends_with("(in ") {
                continue;
            }
            collect(module, &mut Vec::new(), &code[at..], &mut paths);
        }
    }
    paths
}

/// Follows a path, and each of its branches.
fn collect(module: &[String], path: &mut Module, text: &str, paths: &mut Vec<Module>) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let length = path.len();
    match name {
        "crate" => path.clear(),
        // The first `super` begins at the module itself.
        "super" if path.is_empty() => path.extend_from_slice(&module[..module.len() - 1]),
        "super" => _ = path.pop(),
        "self" if path.is_empty() => path.extend_from_slice(module),
        "self" | "" => {}
        name => path.push(name.to_owned()),
    }
    match rest.strip_prefix("::") {
        Some(rest) => match rest.strip_prefix('{') {
            Some(list) => {
                for branch in branches(list) {
                    collect(module, &mut path.clone(), branch, paths);
                }
            }
            None => collect(module, &mut path.clone(), rest, paths),
        },
        None => paths.push(path.clone()),
    }
    path.truncate(length);
}

/// What can be reached from a module.
fn reached<'g>(
    graph: &BTreeMap<&'g Module, BTreeSet<&'g Module>>,
    from: &'g Module,
) -> BTreeSet<&'g Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(graph[module].iter().copied().filter(|other| seen.insert(*other)));
    }
    seen
}

/// The largest set of files of a package each of which reaches every other by imports.
fn largest_circle(package: &str) -> Vec<String> {
    let imports = Imports::of(package);
    let graph = imports.graph();
    let reached: BTreeMap<_, _> =
        graph.keys().map(|module| (*module, reached(&graph, module))).collect();
    let circle = |(module, others): (_, &BTreeSet<_>)| {
        let mutual = others.iter().filter(|other: &&&Module| reached[*other].contains(module));
        mutual.map(|other| other.join("::")).collect()
    };
    reached.iter().map(circle).max_by_key(Vec::len).unwrap()
}

#[test]
fn no_circle_of_imports_is_large() {
    let circle = largest_circle("rpc-core");
    assert!(circle.len() <= LARGEST, "{} files import one another: {circle:#?}", circle.len());
    // A search that finds nothing would be content with everything.
    assert!(circle.len() > 5, "the largest circle has {} files", circle.len());
}

#[test]
fn the_files_of_the_generator_import_in_one_direction() {
    assert_eq!(largest_circle("rpc-codegen"), Vec::<String>::new());
}

#[test]
fn paths_are_found_however_they_are_written() {
    let module = ["cap", "call"].map(str::to_owned);
    let code = "use crate::work::{role, room::{self, Room}};\nuse super::client::Client;\n\
                pub(in crate::cap) fn f() { super::super::kinds::g() }\npub use self::h::H;";
    let mut found: Vec<String> = paths(&module, code).iter().map(|path| path.join("::")).collect();
    found.sort();
    let expected = [
        "cap::call::h::H",
        "cap::client::Client",
        "kinds::g",
        "work::role",
        "work::room",
        "work::room::Room",
    ];
    assert_eq!(found, expected);
}
