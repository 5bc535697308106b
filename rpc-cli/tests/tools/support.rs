//! Servers to call, and running the program.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use capnp_threads::serving::{Running, Server};
use capnp_threads::transport::VatId;
use capnp_threads::transport::tls::VatKey;
use capnp_threads::{Concurrency, ConnConfig, Error, FromClient, Result, Vat};
use rpc_schema::calculator_capnp::calculator::{self, Operator, expression, function, value};
use rpc_schema::echo_capnp::echo;
use rpc_testing::process::{finished, installed};

pub(crate) fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema").canonicalize().unwrap()
}

/// Whether the schema compiler is there, which the program runs.
pub(crate) fn compiler() -> bool {
    installed("capnp", Command::new("capnp").arg("--version"))
}

/// The program, in the folder of the schemas.
pub(crate) fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capnp-threads"));
    command.args(arguments).current_dir(schemas());
    command
}

/// What the program prints when it succeeds.
pub(crate) fn printed(arguments: &[&str]) -> String {
    let output = finished(&mut tool(arguments));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaints}");
    assert_eq!(complaints, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and the complaint of the program when it fails.
pub(crate) fn complaint(arguments: &[&str]) -> (i32, String) {
    let output = finished(&mut tool(arguments));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(!complaint.contains("panicked"), "{arguments:?}: {complaint}");
    (output.status.code().unwrap(), complaint)
}

/// A server in this process.
pub(crate) struct Served {
    pub(crate) address: String,
    running: Option<Running>,
}

impl Served {
    fn start(server: Server) -> Self {
        let running = server.signals(false).start().unwrap();
        Served { address: running.addresses()[0].to_string(), running: Some(running) }
    }

    pub(crate) fn calculator() -> Self {
        Self::calculator_at("127.0.0.1:0")
    }

    pub(crate) fn calculator_at(address: &str) -> Self {
        let server = Server::new(calculator());
        Self::start(server.listen(address).unwrap())
    }

    /// A calculator that says what it is, with these schemas.
    pub(crate) fn describing_calculator(schema: Vec<u8>) -> Self {
        let server = Server::new(calculator()).describe(schema);
        Self::start(server.listen("127.0.0.1:0").unwrap())
    }

    pub(crate) fn echo() -> Self {
        Self::object(echo())
    }

    pub(crate) fn object(bootstrap: impl FromClient) -> Self {
        Self::start(Server::new(bootstrap).listen("127.0.0.1:0").unwrap())
    }

    /// A vat with a key, which lets in whoever `admits` says.
    pub(crate) fn echo_with_key(
        key: &VatKey,
        admits: impl Fn(VatId) -> bool + Send + Sync + 'static,
    ) -> Self {
        let echo = echo().into_client();
        let server = Server::with_config(move |peer| match peer.vat() {
            Some(vat) if admits(vat) => Ok(ConnConfig::new().bootstrap(echo.clone())),
            _ => Err(Error::failed("this vat is not for you")),
        });
        Self::start(server.listen_as(key, "127.0.0.1:0").unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop_now();
            running.join().unwrap();
        }
    }
}

fn calculator() -> calculator::Client {
    Vat::global().export_with(Calculator, Concurrency::Concurrent)
}

fn echo() -> echo::Client {
    Vat::global().export(Echo::default())
}

/// The address of a way to a server on which answers wait until the client has sent so many
/// messages: so the client calls what was not answered yet, as it does over a long way.
pub(crate) fn far_away(server: &Served, messages: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.address.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let there = TcpStream::connect(&server).unwrap();
            let (mut answers, mut to) = (there.try_clone().unwrap(), client.try_clone().unwrap());
            let (sent, all) = mpsc::channel::<()>();
            thread::spawn(move || {
                // It is dropped when all were sent, or none will be any more.
                let _ = all.recv();
                let _ = io::copy(&mut answers, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = pass_on(&client, &there, messages);
                drop(sent);
                let _ = io::copy(&mut &client, &mut &there);
                let _ = there.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, messages: usize) -> io::Result<()> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
    for _ in 0..messages {
        let mut message = vec![0; 4];
        from.read_exact(&mut message)?;
        let segments = number(&message) + 1;
        message.resize(4 + 4 * (segments | 1), 0);
        from.read_exact(&mut message[4..])?;
        let words: usize = message[4..].chunks_exact(4).take(segments).map(number).sum();
        let start = message.len();
        message.resize(start + 8 * words, 0);
        from.read_exact(&mut message[start..])?;
        to.write_all(&message)?;
    }
    Ok(())
}

struct Calculator;

impl calculator::Server for Calculator {
    fn evaluate(
        &self,
        params: calculator::EvaluateParams,
        mut results: calculator::EvaluateResults,
    ) -> Result<()> {
        let number = evaluate(params.get()?.get_expression()?)?;
        results.get().set_value(value::Client::from_server(Number(number)));
        Ok(())
    }

    fn def_function(
        &self,
        _: calculator::DefFunctionParams,
        _: calculator::DefFunctionResults,
    ) -> Result<()> {
        Err(Error::failed("\u{1b}[31mno\nfunctions \u{9b}"))
    }

    fn get_operator(
        &self,
        params: calculator::GetOperatorParams,
        mut results: calculator::GetOperatorResults,
    ) -> Result<()> {
        let operator = Arithmetic(params.get()?.get_op()?);
        results.get().set_func(function::Client::from_server(operator));
        Ok(())
    }
}

fn evaluate(of: expression::Reader<'_>) -> Result<f64> {
    match of.which()? {
        expression::Literal(number) => Ok(number),
        expression::PreviousResult(value) => Ok(value?.read_request().call()?.get()?.get_value()),
        expression::Parameter(_) => Err(Error::failed("there is no function around this")),
        expression::Call(call) => {
            let mut request = call.get_function()?.call_request();
            let params = call.get_params()?;
            let mut numbers = request.get().init_params(params.len());
            for (index, param) in (0..).zip(params) {
                numbers.set(index, evaluate(param)?);
            }
            Ok(request.call()?.get()?.get_value())
        }
    }
}

struct Number(f64);

impl value::Server for Number {
    fn read(&self, _: value::ReadParams, mut results: value::ReadResults) -> Result<()> {
        results.get().set_value(self.0);
        Ok(())
    }
}

struct Arithmetic(Operator);

impl function::Server for Arithmetic {
    fn call(&self, params: function::CallParams, mut results: function::CallResults) -> Result<()> {
        let params = params.get()?.get_params()?;
        if params.len() != 2 {
            return Err(Error::failed("an operator takes two numbers"));
        }
        let (a, b) = (params.get(0), params.get(1));
        results.get().set_value(match self.0 {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide => a / b,
        });
        Ok(())
    }
}

/// An object of `echo.capnp`.
#[derive(Default)]
struct Echo {
    bytes: std::sync::atomic::AtomicU64,
}

impl echo::Server for Echo {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn echo(&self, params: echo::EchoParams, mut results: echo::EchoResults) -> Result<()> {
        results.get().set_data(params.get()?.get_data()?);
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(echo::Client::from_server(Echo::default()));
        Ok(())
    }

    fn push(&self, params: echo::PushParams) -> Result<()> {
        let bytes = params.get()?.get_data()?.len() as u64;
        self.bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, mut results: echo::TotalResults) -> Result<()> {
        results.get().set_bytes(self.bytes.load(std::sync::atomic::Ordering::Relaxed));
        Ok(())
    }
}
