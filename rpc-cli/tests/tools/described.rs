//! Servers that describe themselves.

use capnp_threads_codegen::Compiler;

use crate::support::{Served, compiler, complaint, printed, schemas};

/// The schemas of a file, as a server tells them.
pub(crate) fn schema_of(file: &str) -> Vec<u8> {
    let mut compiler = Compiler::new();
    compiler.file(schemas().join(file)).import_path(schemas()).no_standard_import();
    compiler.request().unwrap()
}

const SUM: [&str; 2] =
    [r#"Calculator.getOperator({"op": "add"}).func.call"#, r#"{"params": [1, 2.5]}"#];

#[test]
fn a_server_that_describes_itself_is_called_without_a_schema() {
    if !compiler() {
        return;
    }
    let server = Served::describing_calculator(schema_of("calculator.capnp"));
    let call = |words: &[&str]| printed(&[&["call", &server.address], words].concat());
    assert_eq!(call(&SUM), "{\"value\": 3.5}\n");
    let four = r#"Calculator.evaluate({"expression": {"literal": 4}}).value.read().value"#;
    assert_eq!(call(&[four]), "4\n");
    assert_eq!(
        call(&[r#"Calculator.getOperator({"op": "add"})"#]),
        "{\"func\": {\"$capability\": \"calculator.capnp:Calculator.Function\"}}\n"
    );
    let (code, text) = complaint(&["call", &server.address, "Calculator"]);
    assert!(code == 2 && text.contains("name a method of calculator.capnp:Calculator"), "{text}");
}

#[test]
fn a_schema_that_is_given_is_preferred() {
    if !compiler() {
        return;
    }
    for wrong in [schema_of("echo.capnp"), b"no schema".to_vec()] {
        let server = Served::describing_calculator(wrong);
        let call = ["call", &server.address, "calculator.capnp"];
        assert_eq!(printed(&[&call, &SUM[..]].concat()), "{\"value\": 3.5}\n");
        let (code, _) = complaint(&[&call[..2], &SUM[..]].concat());
        assert!(code == 1 || code == 2);
    }
}

#[test]
fn what_is_missing_or_garbled_is_said() {
    if !compiler() {
        return;
    }
    let silent = Served::calculator();
    let (code, text) = complaint(&[&["call", &silent.address], &SUM[..]].concat());
    assert!(code == 2 && text.contains("name its schema before the path"), "{text}");
    let (code, text) = complaint(&["call", &silent.address, "calculator.capnp"]);
    assert!(code == 2 && text.contains("name a method behind calculator.capnp"), "{text}");
    let garbled = Served::describing_calculator(b"no schema".to_vec());
    let (code, text) = complaint(&[&["call", &garbled.address], &SUM[..]].concat());
    assert!(code == 1 && text.contains("what the server says of itself"), "{text}");
}
