//! The schemas have the ids and layouts that other implementations rely on, and
//! the generated code that is committed for peers is theirs.
//!
//! Needs the `capnp` tool, and says so where it is missing.

mod facts;
mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use layout::{Layouts, Struct, compile};
use rpc_tests::peers::{Missing, or_skip, schema_compiler, schema_folder};

fn ours(file: &str) -> Option<Layouts> {
    let mut compiler = or_skip(schema_compiler())?;
    Some(compile(&mut compiler, &schema_folder().join(file)))
}

/// Compares lines, and names those that differ instead of printing all.
#[track_caller]
fn assert_same(actual: impl IntoIterator<Item = String>, facts: &str) {
    let actual: BTreeSet<String> = actual.into_iter().collect();
    let facts: BTreeSet<String> = facts.lines().map(str::to_owned).collect();
    let missing: Vec<_> = facts.difference(&actual).collect();
    let added: Vec<_> = actual.difference(&facts).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "these facts are not so: {missing:#?}\nbut these are: {added:#?}"
    );
}

fn struct_lines(layouts: &Layouts) -> Vec<String> {
    layouts.structs.iter().map(|(&id, layout)| layout.line(id)).collect()
}

#[test]
fn rpc_has_its_ids_and_layouts() {
    let Some(layouts) = ours("rpc.capnp") else { return };
    assert_same(struct_lines(&layouts), facts::RPC_STRUCTS);
    assert_same(layouts.enums.into_values(), facts::RPC_ENUMS);
}

#[test]
fn rpc_twoparty_has_its_ids_and_layouts() {
    let Some(layouts) = ours("rpc-twoparty.capnp") else { return };
    assert_same(struct_lines(&layouts), facts::TWOPARTY_STRUCTS);
    assert_same(layouts.enums.into_values(), facts::TWOPARTY_ENUMS);
}

#[test]
fn persistent_has_its_ids_and_layouts() {
    let Some(layouts) = ours("persistent.capnp") else { return };
    assert_same(struct_lines(&layouts), facts::PERSISTENT_STRUCTS);
    assert_same(layouts.interfaces.into_values(), facts::PERSISTENT_INTERFACES);
    assert_same(layouts.annotations.into_values(), facts::PERSISTENT_ANNOTATIONS);
}

#[test]
fn stream_has_its_id_and_layout() {
    let Some(layouts) = ours("stream.capnp") else { return };
    assert_same(struct_lines(&layouts), facts::STREAM_STRUCTS);
}

#[test]
fn the_conformance_interfaces_have_their_ids_and_methods() {
    let Some(layouts) = ours("test.capnp") else { return };
    assert_same(layouts.interfaces.into_values(), facts::TEST_INTERFACES);
    assert_same(layouts.enums.into_values(), facts::TEST_ENUMS);
    let structs = layouts.structs.values().map(|layout| {
        let fields: Vec<_> = layout
            .fields
            .iter()
            .map(|(ordinal, field)| format!("{}@{ordinal} :{}", field.name, field.kind))
            .collect();
        format!("{}: {}", layout.name, fields.join(", "))
    });
    assert_same(structs, facts::TEST_STRUCTS);
}

/// Where an installed C++ implementation has its own copies.
fn installed(file: &str) -> Result<PathBuf, Missing> {
    ["/usr/include/capnp", "/usr/local/include/capnp"]
        .iter()
        .map(|folder| Path::new(folder).join(file))
        .find(|path| path.exists())
        .ok_or_else(|| Missing::new(format!("installed {file}"), "no copy found"))
}

/// Fields that older releases have otherwise, none of which anybody implements:
/// by struct and ordinal.
const OTHERWISE_IN_OLDER: &[(&str, u16)] = &[("Accept", 2), ("Disembargo", 3), ("Disembargo", 4)];
/// Interfaces that older releases had and that were taken out of the library since:
/// `RealmGateway`.
const NOT_IN_OLDER: &[u64] = &[0x84ff_286c_d00a_3ed4];
/// Structs that later releases have replaced.
const GONE_SINCE: &[&str] = &["ProvisionId", "RecipientId", "ThirdPartyCapId"];

/// Requires that whatever an older release knows is at the same place.
fn assert_extends(ours: &BTreeMap<u64, Struct>, older: &BTreeMap<u64, Struct>) {
    for (id, theirs) in older {
        let Some(ours) = ours.get(id) else {
            assert!(GONE_SINCE.contains(&&*theirs.name), "{} is missing", theirs.name);
            continue;
        };
        assert_eq!(ours.name, theirs.name);
        assert!(ours.words >= theirs.words && ours.pointers >= theirs.pointers, "{}", ours.name);
        assert_eq!(ours.tags, theirs.tags, "{}", ours.name);
        for (ordinal, field) in &theirs.fields {
            if OTHERWISE_IN_OLDER.contains(&(&theirs.name, *ordinal)) {
                continue;
            }
            let our_field = &ours.fields[ordinal];
            // Names have changed where nothing else did.
            let renamed = layout::Field { name: field.name.clone(), ..our_field.clone() };
            assert_eq!(&renamed, field, "{}@{ordinal}", theirs.name);
        }
    }
}

#[test]
fn schemas_agree_with_installed_copies() {
    let mut compared = BTreeMap::new();
    for file in ["rpc.capnp", "rpc-twoparty.capnp", "persistent.capnp", "stream.capnp"] {
        let Some(layouts) = ours(file) else { return };
        let Some(copy) = or_skip(installed(file)) else { return };
        let older = compile(&mut schema_compiler().unwrap(), &copy);
        assert_extends(&layouts.structs, &older.structs);
        let mut interfaces = layouts.interfaces;
        interfaces.retain(|id, _| !NOT_IN_OLDER.contains(id));
        assert_eq!(interfaces, older.interfaces, "{file}");
        assert_eq!(layouts.enums, older.enums, "{file}");
        assert_eq!(layouts.annotations, older.annotations, "{file}");
        compared.insert(file, older.structs.len() + older.interfaces.len());
    }
    // Something was there to compare.
    assert!(compared.values().all(|&declarations| declarations > 0), "{compared:?}");
}

/// Generated code without the line that tells which compiler was installed.
fn without_compiler_version(code: &str) -> String {
    let lines = code.lines().filter(|line| !line.starts_with("// capnp binary version:"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_capnp_rpc_peer_has_the_code_of_the_schemas() {
    let Some(_) = or_skip(schema_compiler()) else { return };
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/capnp-rpc/src/generated");
    let output = tempfile::tempdir().unwrap();
    let schemas = schema_folder();
    let mut command = capnpc::CompilerCommand::new();
    command
        .src_prefix(&schemas)
        .default_parent_module(vec!["generated".into()])
        .output_path(output.path());
    let files = ["test", "test-control", "test-values"];
    for file in files {
        command.file(schemas.join(file).with_extension("capnp"));
    }
    command.run().unwrap();
    for file in files {
        let name = format!("{}_capnp.rs", file.replace('-', "_"));
        let fresh = fs::read_to_string(output.path().join(&name)).unwrap();
        if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
            fs::write(committed.join(&name), &fresh).unwrap();
        }
        let old = fs::read_to_string(committed.join(&name)).unwrap();
        assert!(
            without_compiler_version(&fresh) == without_compiler_version(&old),
            "{name} is not what capnpc generates from {file}.capnp; \
             UPDATE_GENERATED=1 writes it anew"
        );
    }
}
