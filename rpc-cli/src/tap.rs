//! `capnp-threads tap`: stands between a client and a server, and shows what they say.
//!
//! It hands messages on as they come, and changes nothing.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use capnp_threads_transport::{
    Address, MessageReader, MessageWriter, Transport, TransportControl, TransportError,
};

use crate::failure::{Failure, Result};
use crate::reach::{Destination, Identity};
use crate::recording::{Event, Side, What};
use crate::said::{Said, Talk};
use crate::schema::Schema;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen: `host:port`, `unix:/path`, `unix-abstract:name` or
    /// `tls:VATID@host:port` with the id of --key; port 0 lets the system choose one
    address: Address,
    /// The server to which everything is handed on. If it is a vat with a key it takes this
    /// program, and not its clients, for the peer
    target: Destination,
    /// Schemas by which methods are named and contents are printed
    schemas: Vec<PathBuf>,
    /// Record everything in a file, for `capnp-threads trace`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print no messages
    #[arg(long)]
    quiet: bool,
    /// End after so many connections, and not only when interrupted
    #[arg(long, value_name = "NUMBER")]
    connections: Option<u32>,
    /// Where `import "/..."` looks
    #[arg(short = 'I', long = "import-path", value_name = "FOLDER")]
    import_paths: Vec<PathBuf>,
    #[command(flatten)]
    identity: Identity,
}

/// Listens, and hands on what is said on each connection.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let schema = Schema::load_any(&arguments.schemas, &arguments.import_paths)?;
    let record = match &arguments.record {
        None => None,
        Some(path) => Some(File::create(path).map_err(|error| {
            Failure::command(format_args!("cannot record in {}: {error}", path.display()))
        })?),
    };
    let entrance = arguments.identity.listen(&arguments.address)?;
    let address = entrance.address()?;
    crate::print(&format!("ready {address}\n"))?;
    let tap = Arc::new(Tap {
        identity: arguments.identity.clone(),
        target: arguments.target.clone(),
        schema,
        quiet: arguments.quiet,
        start: Instant::now(),
        record: Mutex::new(record),
    });
    let mut connections = Vec::new();
    for number in 1..=arguments.connections.unwrap_or(u32::MAX) {
        let client = match entrance.accept() {
            Ok(client) => client,
            Err(error) => {
                eprintln!("capnp-threads: a client could not be accepted: {error}");
                continue;
            }
        };
        let tap = Arc::clone(&tap);
        connections.retain(|connection: &thread::JoinHandle<()>| !connection.is_finished());
        connections.push(thread::spawn(move || {
            if let Err(failure) = connection(&tap, number, client) {
                eprintln!("capnp-threads: connection {number}: {failure}");
            }
        }));
    }
    for connection in connections {
        if let Err(panic) = connection.join() {
            std::panic::resume_unwind(panic);
        }
    }
    Ok(())
}

/// What all connections share.
struct Tap {
    identity: Identity,
    target: Destination,
    schema: Option<Schema>,
    quiet: bool,
    start: Instant,
    /// Held while an event is told, so that events stand in the order of their times. A
    /// message is handed on after it was told: what answers it is told later.
    record: Mutex<Option<File>>,
}

impl Tap {
    /// Tells an event, and returns what it told of.
    fn tell(&self, connection: u32, what: What, talk: &Mutex<Talk>) -> Result<What> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let time = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let event = Event { time, connection, what };
        if let Some(record) = &mut *record {
            event.write(record).map_err(|error| {
                Failure::command(format_args!("the recording cannot be written: {error}"))
            })?;
        }
        if !self.quiet {
            let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
            crate::print(&self.line(&event, &mut talk))?;
        }
        Ok(event.what)
    }

    fn line(&self, event: &Event, talk: &mut Talk) -> String {
        let (arrow, text) = match &event.what {
            What::Opened(peer) => ("--", format!("connected by {peer}")),
            What::Message(from, message) => {
                let said = talk.hear(self.schema.as_ref(), *from, message);
                (arrow(*from), text_of(&said))
            }
            What::Ended(from, None) => (arrow(*from), "end of stream".to_owned()),
            What::Ended(from, Some(why)) => (arrow(*from), format!("failed: {why}")),
        };
        // Times are for people.
        let millis = event.time / 1_000_000;
        let micros = event.time / 1000 % 1000;
        format!("{millis:>6}.{micros:03} [{}] {arrow} {text}\n", event.connection)
    }
}

fn arrow(from: Side) -> &'static str {
    match from {
        Side::Client => "->",
        Side::Server => "<-",
    }
}

/// The line about a message, and behind it the method and the content.
fn text_of(said: &Said) -> String {
    let mut text = said.line.clone();
    // Without a schema the line has the numbers already.
    if let (Some(method), "call" | "return") = (&said.method, said.kind)
        && !text.contains(method)
    {
        text.push_str(": ");
        text.push_str(method);
    }
    if let (Some(content), false) = (&said.content, said.failed) {
        text.push(' ');
        text.push_str(content);
    }
    text
}

/// One connection: two threads, one for each direction.
fn connection(tap: &Arc<Tap>, number: u32, client: Transport) -> Result<()> {
    let peer = client.control.peer();
    let talk = Arc::new(Mutex::new(Talk::default()));
    let server = match tap.identity.connect(&tap.target, None) {
        Ok(server) => server,
        Err(failure) => {
            client.control.shutdown();
            return Err(failure);
        }
    };
    let controls = [client.control, server.control];
    let described = match peer.vat() {
        Some(vat) => format!("{}, the vat {vat}", peer.address),
        None => peer.address,
    };
    tap.tell(number, What::Opened(described), &talk)?;
    let answers = {
        let (tap, talk, controls) = (Arc::clone(tap), Arc::clone(&talk), controls.clone());
        let (reader, writer) = (server.reader, client.writer);
        thread::spawn(move || hand_on(&tap, number, Side::Server, &talk, reader, writer, &controls))
    };
    let asked = hand_on(tap, number, Side::Client, &talk, client.reader, server.writer, &controls);
    let answered = match answers.join() {
        Ok(answered) => answered,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    asked.and(answered)
}

/// Hands on what one side says, until it ends. A failure of either side ends both.
fn hand_on(
    tap: &Tap,
    number: u32,
    from: Side,
    talk: &Mutex<Talk>,
    mut reader: Box<dyn MessageReader>,
    mut writer: Box<dyn MessageWriter>,
    controls: &[Arc<dyn TransportControl>; 2],
) -> Result<()> {
    let outcome = (|| -> Result<Result<(), TransportError>> {
        loop {
            let message = match reader.read() {
                Ok(Some(message)) => message,
                Ok(None) => {
                    tap.tell(number, What::Ended(from, None), talk)?;
                    return Ok(writer.finish());
                }
                Err(error) => return Ok(Err(error)),
            };
            let What::Message(_, message) = tap.tell(number, What::Message(from, message), talk)?
            else {
                continue;
            };
            if let Err(error) = writer.write(&mut vec![message]) {
                return Ok(Err(error));
            }
        }
    })();
    let told = match &outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => {
            tap.tell(number, What::Ended(from, Some(error.to_string())), talk).map(|_| ())
        }
        Err(_) => Ok(()),
    };
    controls.iter().for_each(|control| control.shutdown());
    outcome.map(|_| ()).and(told)
}
