//! rpc-core is built in layers, and the document that draws them is right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of rpc-core that import one another and those of the layers below, and
/// nothing from above.
struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    holds: &'static str,
}

/// From the top to the bottom.
const LAYERS: [Layer; 10] = [
    Layer {
        name: "typed",
        modules: &["bench", "capnp", "generated", "typed"],
        holds: "requests, promises, servers: what generated code is made of",
    },
    Layer {
        name: "runtime",
        modules: &["runtime"],
        holds: "vats, connections and their threads, networks of vats",
    },
    Layer {
        name: "kinds",
        modules: &["kinds"],
        holds: "what stands in front of capabilities: membranes, gateways",
    },
    Layer {
        name: "protocol",
        modules: &["protocol"],
        holds: "the machine: tables, and what each message does to them",
    },
    Layer {
        name: "cap",
        modules: &["cap"],
        holds: "capabilities, calls, promises, objects, effects",
    },
    Layer { name: "work", modules: &["work"], holds: "threads that wait, and workers" },
    Layer {
        name: "transport",
        modules: &["transport"],
        holds: "what a connection needs of the network",
    },
    Layer {
        name: "wire",
        modules: &["wire"],
        holds: "messages as plain values: decoded, encoded, printed",
    },
    Layer { name: "flow", modules: &["flow"], holds: "the windows of streams" },
    Layer {
        name: "ground",
        modules: &[
            "brand", "budget", "data", "deadline", "error", "fd", "ids", "limits", "log", "memory",
            "panics", "process", "sync",
        ],
        holds: "errors, ids, limits, locks",
    },
];

/// Words that have no place in the sources of a layer, and the promise of the layer that
/// this keeps.
const NOT_IN: [(&str, &[&str], &str); 2] = [
    (
        "protocol",
        &["Condvar", "Instant", "Duration", "thread", "waiting", "blocking", "park"],
        "no threads, no waiting, no clock",
    ),
    ("wire", &["effects", "Client", "transact"], "plain values"),
];

fn source_folder(package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src")
}

/// The source files of a package, each with the path of its module.
pub(super) fn sources(package: &str) -> Vec<(Vec<String>, String)> {
    fn collect(folder: &Path, module: &[String], found: &mut Vec<(Vec<String>, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if ["tests", "models", "lib"].contains(&&*stem) {
                continue;
            }
            let mut own = module.to_vec();
            if stem != "mod" {
                own.push(stem);
            }
            if path.is_dir() {
                collect(&path, &own, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((own, product(&fs::read_to_string(&path).unwrap())));
            }
        }
    }
    let mut found = Vec::new();
    collect(&source_folder(package), &[], &mut found);
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// What of a source is neither a comment nor a test.
fn product(source: &str) -> String {
    let code = source.split("\nmod tests {").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The module of the crate's root that each path leads into.
fn imports(module: &[String], code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, depth) in [("crate::", module.len()), ("super::", 1)] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // `$crate` is for other crates, and `super::super::` was found already.
            if before.is_some_and(|c| c == '$' || c == ':' || c == '_' || c.is_alphanumeric()) {
                continue;
            }
            let (mut depth, mut rest) = (depth, &code[at + start.len()..]);
            while start == "super::" && rest.starts_with("super::") {
                depth += 1;
                rest = &rest["super::".len()..];
            }
            if depth < module.len() {
                // It does not leave the module of the root that it is in.
                continue;
            }
            for name in rest.strip_prefix('{').map_or_else(|| vec![rest], branches) {
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
                found.push(name[..end.unwrap_or(name.len())].to_owned());
            }
        }
    }
    found
}

/// What stands between braces, apart.
pub(super) fn branches(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                found.push(list[start..at].trim());
                break;
            }
            ',' if depth == 0 => {
                found.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.modules.contains(&module))
}

#[test]
fn every_module_is_in_a_layer() {
    let lib = fs::read_to_string(source_folder("rpc-core").join("lib.rs")).unwrap();
    let declared = lib.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let mut declared: Vec<&str> = declared.filter(|module| *module != "tests").collect();
    let mut layered: Vec<&str> =
        LAYERS.iter().flat_map(|layer| layer.modules.iter().copied()).collect();
    declared.sort_unstable();
    layered.sort_unstable();
    assert_eq!(declared, layered);
}

#[test]
fn no_layer_imports_from_above() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (module, code) in sources("rpc-core") {
        let own = layer_of(&module[0]).expect("every module is in a layer");
        for target in imports(&module, &code) {
            // Macros are at the root, wherever they are written.
            if target.starts_with("__") {
                continue;
            }
            seen += 1;
            match layer_of(&target) {
                // What is re-exported there is above all layers.
                None => wrong.push(format!("{} imports crate::{target}", module.join("::"))),
                Some(layer) if layer < own => {
                    wrong.push(format!("{} imports {target}, which is above", module.join("::")));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 500, "only {seen} imports were found");
}

#[test]
fn layers_keep_out_what_they_promise_to() {
    let sources = sources("rpc-core");
    for (layer, words, kept) in NOT_IN {
        let mut files = 0;
        for (module, code) in sources.iter().filter(|(module, _)| module[0] == layer) {
            if module.last().is_some_and(|name| name.ends_with("_capnp")) {
                continue;
            }
            files += 1;
            for word in words {
                let found = code.split(|c: char| !c.is_alphanumeric() && c != '_');
                assert!(
                    found.into_iter().all(|own| own != *word),
                    "{} has to do with `{word}`, but {layer} has {kept}",
                    module.join("::")
                );
            }
        }
        assert!(files > 4, "{layer} was not found");
    }
}

/// The layers as the document draws them.
fn picture() -> String {
    let line = |layer: &Layer| {
        let beside: Vec<&str> =
            layer.modules.iter().copied().filter(|module| *module != layer.name).collect();
        let beside = match &*beside.join(", ") {
            "" => String::new(),
            names => format!("  ({names})"),
        };
        format!(" {:<10} {}{beside}\n", layer.name, layer.holds)
    };
    LAYERS.iter().map(line).collect()
}

#[test]
fn the_picture_of_the_layers_is_that_of_the_list() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    let document = fs::read_to_string(document).unwrap();
    let picture = picture();
    assert!(document.contains(&picture), "docs/architecture.md should draw:\n{picture}");
}

/// What most programs name is at the root of a crate, everything else in the module of its
/// subject: of the facade, which users see, and of the core.
#[test]
fn the_roots_are_small() {
    for path in ["../src/lib.rs", "../rpc-core/src/lib.rs"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let source = fs::read_to_string(source).unwrap();
        let uses = source.match_indices("\npub use ").map(|(at, start)| {
            let (names, _) = source[at + start.len()..].split_once(';').unwrap();
            let (_, names) = names.rsplit_once("::").unwrap_or(("", names));
            names.trim_matches(['{', '}'])
        });
        let names = uses.flat_map(|names| names.split(',')).map(str::trim);
        // Names of modules are not counted.
        let is_item =
            |name: &&str| name.contains(|c: char| c.is_uppercase()) || name.contains("promise");
        let names: Vec<&str> = names.filter(is_item).collect();
        assert!((10..=22).contains(&names.len()), "{path}, {} names: {names:?}", names.len());
    }
}

#[test]
fn imports_are_found_however_they_are_written() {
    let module = ["cap", "call"].map(str::to_owned);
    let code = "use crate::work::role;\nuse crate::{flow::{A, B}, wire};\n\
                use super::client::Client;\nuse super::super::kinds::C;\n\
                fn f() { crate::error::g(); $crate::data::h(); other_crate::i() }";
    assert_eq!(imports(&module, code), ["work", "flow", "wire", "error", "kinds"]);
}
