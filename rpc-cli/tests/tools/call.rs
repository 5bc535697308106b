//! `capnp-threads call`.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rpc_testing::process::{Server, installed};

use crate::support::{Served, compiler, complaint, printed, schemas};

const SCHEMA: &str = "calculator.capnp";

#[test]
fn results_are_printed_and_capabilities_are_followed() {
    if !compiler() {
        return;
    }
    let server = Served::calculator();
    let call = |path: &str, params: &[&str]| {
        printed(&[&["call", &server.address, SCHEMA, path], params].concat())
    };
    let sum = r#"{"params": [1, 2.5]}"#;
    let add = r#"Calculator.getOperator({"op": "add"})"#;
    assert_eq!(call(&format!("{add}.func.call"), &[sum]), "{\"value\": 3.5}\n");
    assert_eq!(call(&format!("{add}.func.call({sum}).value"), &[]), "3.5\n");
    // Results with one capability are called without naming it.
    assert_eq!(call(&format!("{add}.call"), &[sum]), "{\"value\": 3.5}\n");
    assert_eq!(
        call(add, &[]),
        "{\"func\": {\"$capability\": \"calculator.capnp:Calculator.Function\"}}\n"
    );
    assert_eq!(
        call(
            "Calculator.evaluate",
            &[
                r#"{"expression": {"call": {"function": "$add", "params": [{"literal": 4}, {"previousResult": "$four"}]}}}"#,
                &format!("--let=add={add}.func"),
                r#"--let=four=Calculator.evaluate({"expression": {"literal": 4}}).value"#,
            ]
        ),
        "{\"value\": {\"$capability\": \"calculator.capnp:Calculator.Value\"}}\n"
    );
    assert_eq!(
        call(
            r#"Calculator.evaluate({"expression": {"call": {"function": "$add", "params": [{"literal": 4}, {"previousResult": "$four"}]}}}).read.value"#,
            &[
                &format!("--let=add={add}.func"),
                r#"--let=four=Calculator.evaluate({"expression": {"literal": 4}}).value"#,
            ]
        ),
        "8\n"
    );
    assert_eq!(
        call(
            "$five.read",
            &[r#"--let=five=Calculator.evaluate({"expression": {"literal": 5}}).value"#]
        ),
        "{\"value\": 5}\n"
    );
}

#[test]
fn calls_back_are_printed_and_answered() {
    if !compiler() {
        return;
    }
    let server = Served::calculator();
    let path = r#"Calculator.evaluate({"expression": {"call": {"function": "$print", "params": [{"previousResult": "$print"}]}}}).value.read"#;
    let wait = ["--wait", "0.001"];
    let printed = printed(&[&["call", &server.address, SCHEMA, path], &wait[..]].concat());
    let lines = [
        "Calculator.Value.read {}",
        "Calculator.Function.call {\"params\": [0]}",
        "{\"value\": 0}",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), lines);
    let (code, text) =
        complaint(&["call", "--wait", "x", &server.address, SCHEMA, "Calculator.evaluate"]);
    assert!(code == 2 && text.contains("--wait"), "{text}");
}

#[test]
fn streams_data_and_integers_of_64_bits() {
    if !compiler() {
        return;
    }
    let server = Served::echo();
    let call = |path: &str| printed(&["call", &server.address, "echo.capnp", path]);
    assert_eq!(call(r#"Echo.echo({"data": [0, 255]})"#), "{\"data\": [0, 255]}\n");
    assert_eq!(call(r#"Echo.push({"data": [1, 2, 3]})"#), "{}\n");
    assert_eq!(call("Echo.total"), "{\"bytes\": \"3\"}\n");
    assert_eq!(call("Echo.next().next.next().echo.total().bytes"), "\"0\"\n");
    // Long results are broken into lines, unless they are to be short.
    let data: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let params = format!("{{\"data\": [{}]}}", data.join(", "));
    let lines = format!("{{\n  \"data\": [\n    {}\n  ]\n}}\n", data.join(",\n    "));
    assert_eq!(printed(&["call", &server.address, "echo.capnp", "Echo.echo", &params]), lines);
    let short = printed(&["call", "--short", &server.address, "echo.capnp", "Echo.echo", &params]);
    assert_eq!(short, format!("{params}\n"));
}

#[test]
fn schemas_may_be_compiled_before_and_servers_be_at_unix_sockets() {
    if !compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let server = Served::calculator_at(&socket);
    let compiled = folder.path().join("calculator.bin");
    let output = Command::new("capnp")
        .env_remove("PWD")
        .args(["compile", "-o-", SCHEMA])
        .current_dir(schemas())
        .output()
        .unwrap();
    std::fs::write(&compiled, &output.stdout).unwrap();
    let call = |schema: &Path| {
        let path = r#"Calculator.evaluate({"expression": {"literal": 5}}).read"#;
        printed(&["call", &server.address, schema.to_str().unwrap(), path])
    };
    assert_eq!(call(&compiled), "{\"value\": 5}\n");

    // Garbled ones are refused, wherever they end.
    let garbled = folder.path().join("garbled.bin");
    for length in (0..output.stdout.len()).step_by(131) {
        std::fs::write(&garbled, &output.stdout[..length]).unwrap();
        let path = garbled.to_str().unwrap();
        let (code, text) = complaint(&["call", &server.address, path, "Calculator.evaluate"]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("name a schema, FILE.capnp, or what"), "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    if !compiler() {
        return;
    }
    let server = Served::calculator();
    let evaluate = r#"Calculator.evaluate({"expression": {"literal": 5}})"#;
    for (code, path, params, complaints) in [
        (2, "Calculator", None, "name a method of calculator.capnp:Calculator: evaluate,"),
        (
            2,
            "Calculater.evaluate",
            None,
            "no interface is called Calculater; the schema has Calculator,",
        ),
        (
            2,
            "Calculator.evaluat",
            None,
            "has no method \"evaluat\"; it has evaluate, defFunction and getOperator",
        ),
        (
            2,
            "Calculator.Value.write",
            None,
            "Calculator.Value has no method \"write\"; it has read",
        ),
        (2, "Calculator.evaluate", Some("{"), "the parameters are not JSON"),
        (2, evaluate, Some("{}"), "given twice"),
        (
            2,
            "Calculator.evaluate",
            Some(r#"{"expresion": 1}"#),
            "no field \"expresion\" in the parameters of calculator.capnp:Calculator.evaluate; there is expression",
        ),
        (
            2,
            "Calculator.evaluate",
            Some(r#"{"expression": {"previousResult": "$it"}}"#),
            "evaluate: expression: previousResult: nothing is called $it; write --let it=PATH before",
        ),
        (2, "Calculator.evaluate(.", None, "what is in parentheses is not JSON"),
        (2, "$it.read", None, "nothing is called $it"),
        (
            2,
            &format!("{evaluate}.vlaue.read"),
            None,
            "vlaue: no field \"vlaue\" in the results of calculator.capnp:Calculator.evaluate; there is value",
        ),
        (
            2,
            &format!("{evaluate}.value"),
            None,
            "ends at a capability; go on with one of its methods",
        ),
        (
            1,
            r#"Calculator.getOperator({"op": "add"}).func.call"#,
            Some("{}"),
            "an operator takes two numbers",
        ),
        (1, "Calculator.defFunction", None, "failed: \\u{1b}[31mno\\nfunctions \\u{9b}"),
    ] {
        let mut arguments = vec!["call", &server.address, SCHEMA, path];
        arguments.extend(params);
        let (actual, text) = complaint(&arguments);
        assert!(text.contains(complaints), "{path}: {text}");
        assert_eq!(actual, code, "{path}: {text}");
        assert!(text.starts_with("capnp-threads: ") && text.ends_with('\n'), "{text}");
    }
    let (code, text) = complaint(&["call", &server.address, "missing.capnp", "A.b"]);
    assert!(code == 2 && text.contains("missing.capnp"), "{text}");
    let (code, text) = complaint(&["call", "nowhere", SCHEMA, "A.b"]);
    assert!(code == 2 && text.contains("is not an address"), "{text}");
}

#[test]
fn servers_that_are_missing_silent_or_garbled_end_the_call_with_code_3() {
    if !compiler() {
        return;
    }
    // Nobody listens where somebody did.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, text) = complaint(&["call", &address, "echo.capnp", "Echo.ping"]);
    assert!(code == 3 && text.contains("refused"), "{text}");

    // One that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (code, text) =
        complaint(&["call", "--timeout", "0.2", &address, "echo.capnp", "Echo.ping"]);
    assert!(code == 3, "{text}");

    // Ones that say what no vat says.
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 64], &[255; 64]] {
        let garbled = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = garbled.local_addr().unwrap().to_string();
        let serving = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = garbled.accept().unwrap();
            stream.write_all(garbage).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let (code, text) = complaint(&["call", &address, "echo.capnp", "Echo.ping"]);
        serving.join().unwrap();
        assert!(matches!(code, 1 | 3), "{text}");
    }
}

#[test]
fn servers_in_other_languages_are_called() {
    if !compiler() || !installed("pycapnp", Command::new("python3").args(["-c", "import capnp"])) {
        return;
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../rpc-tests/peers/python-calculator/calculator.py");
    let server = Server::start(Command::new("python3").arg(program).args(["serve", "127.0.0.1:0"]));
    let path = r#"Calculator.evaluate({"expression": {"call": {"function": "$divide", "params": [{"literal": 1}, {"literal": 8}]}}}).value.read"#;
    let divide = r#"--let=divide=Calculator.getOperator({"op": "divide"}).func"#;
    assert_eq!(printed(&["call", &server.address, SCHEMA, path, divide]), "{\"value\": 0.125}\n");
}
