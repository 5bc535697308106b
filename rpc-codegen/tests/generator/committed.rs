//! The generated code that is committed is what the generator makes of the
//! schemas.

#[allow(dead_code)]
#[path = "../../src/bin/regenerate.rs"]
mod regenerate;

#[test]
fn committed_code_is_up_to_date() {
    if !crate::support::have_compiler("committed_code_is_up_to_date") {
        return;
    }
    let mut stale = Vec::new();
    for (folder, files) in regenerate::generated().expect("the schemas are sound") {
        let mut expected = Vec::new();
        for file in files {
            let path = folder.join(&file.path);
            if std::fs::read_to_string(&path).is_ok_and(|present| present == file.code) {
                expected.push(file.path);
            } else {
                stale.push(path);
            }
        }
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let known = expected.iter().any(|path| entry.file_name() == path.as_os_str());
            if !known && !stale.contains(&entry.path()) {
                stale.push(entry.path());
            }
        }
    }
    assert!(
        stale.is_empty(),
        "not what the generator makes of the schemas; run `cargo run -p capnp-threads-codegen --bin \
         regenerate`, and remove what has no schema: {stale:#?}"
    );
}
