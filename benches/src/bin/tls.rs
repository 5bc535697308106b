//! Measures TLS beside plain sockets, in turns: handshakes, round trips and a stream; with
//! OpenSSL's `s_time` and `s_server`, and sockets without a protocol, as floors.
//!
//! A machine that does other work at the same time makes every absolute figure doubtful; so,
//! as in `compare`, what counts are the ratios within a round.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::cli::positive;
use benches::figures::{Figure, Line, Work, number};
use benches::load::Load;
use benches::raw::{self, Raw};
use benches::service::Echo;
use benches::table::Table;
use benches::{Failure, Result};
use capnp_threads_core::{Concurrency, ConnConfig, FromClient, Vat};
use capnp_threads_transport::tls::{self, Authorities, Certificate, TlsClient, TlsServer, VatKey};
use capnp_threads_transport::{Address, Transport, tcp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

const USAGE: &str = "tls [--rounds N] [--milliseconds N] [--divide N]
Measures each figure N times (default 5): handshakes for so long (default 1000, whole seconds
with OpenSSL), round trips and the stream with the work of `compare`, divided by N
(default 10)";

struct Options {
    rounds: usize,
    time: Duration,
    divisor: usize,
}

fn main() -> ExitCode {
    match parse().and_then(|options| options.map_or(Ok(()), |options| measure(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Option<Options>> {
    let mut options = Options { rounds: 5, time: Duration::from_secs(1), divisor: 10 };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || positive(&option, &arguments.next().unwrap_or_default());
        match option.as_str() {
            "--rounds" => options.rounds = value()?,
            "--milliseconds" => options.time = Duration::from_millis(value()? as u64),
            "--divide" => options.divisor = value()?,
            "--help" => {
                println!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Some(options))
}

fn measure(options: &Options) -> Result<()> {
    let setting = Setting::new()?;
    let mut makers = setting.makers()?;
    let mut handshakes = Table::new("handshakes", names(&makers));
    let mut carriers = carriers()?;
    let mut calls = Table::new("calls", names(&carriers));
    let work = Work { figures: vec![Figure::Ping, Figure::Stream], divisor: options.divisor };
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (peer, (_, make)) in makers.iter_mut().enumerate() {
            let line = Line::new("handshakes_per_s".to_owned(), make(options.time)?, 0);
            handshakes.add(peer, round, &line);
        }
        for (peer, (_, client)) in carriers.iter_mut().enumerate() {
            work.run(&mut **client, |line| {
                calls.add(peer, round, &line);
                Ok(())
            })?;
        }
    }
    for table in [&handshakes, &calls] {
        println!("## {}\n\n{table}", table.name());
    }
    Ok(())
}

fn names<T>(peers: &[(String, T)]) -> Vec<String> {
    peers.iter().map(|(name, _)| name.clone()).collect()
}

/// Makes connections, one after the other, for so long. Returns how many in a second.
type Maker = Box<dyn FnMut(Duration) -> Result<f64>>;

/// An authority with a server and a client, whose keys are of P-256.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join("ca"), params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        for name in ["localhost", "alice"] {
            let mut params = CertificateParams::new([name.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?.pem();
            std::fs::write(folder.path().join(name), certificate + &key.serialize_pem())?;
        }
        Ok(Setting { folder })
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn certificate(&self, name: &str) -> Result<Certificate> {
        Ok(Certificate::from_pem_files(self.file(name), self.file(name))?)
    }

    fn makers(&self) -> Result<Vec<(String, Maker)>> {
        let ours = Authorities::from_pem_file(self.file("ca"))?;
        let own = self.certificate("localhost")?;
        let by_name = |client: TlsClient, server: TlsServer| -> Result<Maker> {
            let listener = server.listen(("127.0.0.1", 0))?;
            let at = listener.local_addr();
            accept_all(move || listener.accept());
            Ok(repeat(move || Ok(client.connect_to(at, "localhost", None).map(drop)?)))
        };
        let (here, there) = (VatKey::generate()?, VatKey::generate()?);
        let listener = there.listen(&"127.0.0.1:0".parse()?)?;
        let vat = there.address(listener.local_addr());
        accept_all(move || listener.accept());
        let plain = tcp::Listener::bind(("127.0.0.1", 0))?;
        let at = plain.local_addr()?;
        accept_all(move || plain.accept());
        let client = || TlsClient::new(&ours);
        let mutual = TlsClient::mutual(&ours, &self.certificate("alice")?)?;
        let mut makers = vec![
            (
                "certificate".to_owned(),
                by_name(client()?.resumption(0), TlsServer::new(&own)?.resumption(0))?,
            ),
            (
                "both".to_owned(),
                by_name(mutual.resumption(0), TlsServer::mutual(&own, &ours)?.resumption(0))?,
            ),
            ("vats".to_owned(), repeat(move || Ok(here.connect(&vat).map(drop)?))),
            ("resumed".to_owned(), by_name(client()?, TlsServer::new(&own)?)?),
            ("plain".to_owned(), repeat(move || Ok(tcp::connect(at).map(drop)?))),
        ];
        match OpenSsl::start(self) {
            Ok(openssl) => makers.insert(1, ("openssl".to_owned(), openssl.maker())),
            Err(error) => eprintln!("without OpenSSL: {error}"),
        }
        Ok(makers)
    }
}

/// Lets clients in, and go, until the process ends.
fn accept_all(accept: impl Fn() -> std::io::Result<Transport> + Send + 'static) {
    std::thread::spawn(move || while accept().is_ok() {});
}

fn repeat(connect: impl Fn() -> Result<()> + 'static) -> Maker {
    Box::new(move |time| {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < time {
            connect()?;
            count += 1;
        }
        Ok(number(count) / start.elapsed().as_secs_f64())
    })
}

/// The program's server, for its client.
struct OpenSsl {
    server: Child,
    port: String,
    authority: std::path::PathBuf,
}

impl OpenSsl {
    fn start(setting: &Setting) -> Result<Self> {
        let own = setting.file("localhost");
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-www", "-num_tickets", "0"])
            .args([Path::new("-cert"), &own, Path::new("-key"), &own])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(server.stdout.take().ok_or("there is no output")?).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned())
        });
        // It ends when it cannot write any more.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(port) = port else { return Err("s_server does not listen".into()) };
        Ok(OpenSsl { server, port, authority: setting.file("ca") })
    }

    fn maker(self) -> Maker {
        Box::new(move |time| {
            let seconds = time.as_secs().max(1).to_string();
            let output = Command::new("openssl")
                .args(["s_time", "-connect", &format!("127.0.0.1:{}", self.port)])
                .args(["-new", "-tls1_3", "-verify", "2", "-time", &seconds, "-CAfile"])
                .arg(&self.authority)
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            // The last such line is that of real time, in whole seconds.
            let rate = text.lines().rev().find_map(|line| {
                let (count, rest) = line.split_once(" connections in ")?;
                let seconds = rest.strip_suffix(" real seconds, 0 bytes read per connection")?;
                Some(count.trim().parse::<f64>().ok()? / seconds.parse::<f64>().ok()?)
            });
            rate.ok_or_else(|| Failure::from(format!("s_time said {text:?}")))
        })
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What the figures are taken of.
type Carrier = Box<dyn benches::figures::Client>;

/// Vats and bare sockets, over TLS and without. The servers run until the process ends.
fn carriers() -> Result<Vec<(String, Carrier)>> {
    let (here, there) = (VatKey::generate()?, VatKey::generate()?);
    let listener = there.listen(&"127.0.0.1:0".parse()?)?;
    let vat = there.address(listener.local_addr());
    let serving = std::thread::spawn(move || serve(listener.accept()));
    let over_tls = Load::over(here.connect(&vat)?)?;
    let plain = tcp::Listener::bind(("127.0.0.1", 0))?;
    let at: Address = plain.local_addr()?.into();
    serving.join().map_err(|_| "the server panicked")??;
    let serving = std::thread::spawn(move || serve(plain.accept()));
    let over_tcp = Load::connect(&at)?;
    serving.join().map_err(|_| "the server panicked")??;
    Ok(vec![
        ("vats over TLS".to_owned(), Box::new(over_tls) as Carrier),
        ("vats over TCP".to_owned(), Box::new(over_tcp)),
        ("raw over TLS".to_owned(), Box::new(raw_over_tls(&here, &there)?)),
        ("raw over TCP".to_owned(), Box::new(raw_over_tcp()?)),
    ])
}

/// Serves one client.
fn serve(transport: std::io::Result<Transport>) -> std::result::Result<(), String> {
    let vat = Vat::new();
    let echo = Echo::client(&vat, Concurrency::default());
    let config = ConnConfig::new().bootstrap(echo.into_client());
    let transport = transport.map_err(|error| error.to_string())?;
    let connection = vat.connect(transport, config).map_err(|error| error.to_string())?;
    // For as long as the process lives.
    std::mem::forget((connection, vat));
    Ok(())
}

fn pair() -> Result<(TcpStream, TcpStream, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let here = TcpStream::connect(at)?;
    let there = listener.accept()?.0;
    for stream in [&here, &there] {
        stream.set_nodelay(true)?;
    }
    Ok((here, there, at))
}

fn raw_over_tcp() -> Result<Raw> {
    let (here, there, _) = pair()?;
    raw::answer_on_thread(there)?;
    Ok(Raw::over(here))
}

const PROTOCOL: &[u8] = b"bench";
const LONG: Duration = Duration::from_secs(60);

fn raw_over_tls(here: &VatKey, there: &VatKey) -> Result<Raw> {
    let (client, server, _) = pair()?;
    let key = there.clone();
    let accepting = std::thread::spawn(move || {
        key.accept_stream(Arc::new(OwnedFd::from(server)), PROTOCOL, LONG)
    });
    let client =
        here.connect_stream(Arc::new(OwnedFd::from(client)), there.id(), PROTOCOL, LONG)?;
    raw::answer_on_thread(Bytes(accepting.join().map_err(|_| "the server panicked")??))?;
    Ok(Raw::over(Bytes(client)))
}

struct Bytes(tls::Stream);

impl Read for Bytes {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(room, None)
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(&mut [IoSlice::new(bytes)])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
