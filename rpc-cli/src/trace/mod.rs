//! `capnp-threads trace`: draws a recording as a sequence diagram, in one HTML page that
//! needs nothing else.
//!
//! What belongs to what is found here; the page only draws it.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};
use crate::recording::{self, Event, Recording, Side, What};
use crate::said::{Said, Talk, Target};
use crate::schema::Schema;

#[cfg(test)]
mod tests;

/// The page; the data take the place of [`DATA`].
const PAGE: &str = include_str!("page.html");

const DATA: &str = "{\"events\":[]}";

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What `capnp-threads tap --record` wrote
    recording: PathBuf,
    /// Schemas by which methods are named and contents are shown
    schemas: Vec<PathBuf>,
    /// The page to write [default: the recording's name with .html behind it]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw so many events at most
    #[arg(long, default_value_t = 20_000, value_name = "NUMBER")]
    limit: usize,
    /// Where `import "/..."` looks
    #[arg(short = 'I', long = "import-path", value_name = "FOLDER")]
    import_paths: Vec<PathBuf>,
}

/// Writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let schema = Schema::load_any(&arguments.schemas, &arguments.import_paths)?;
    let recording = recording::open(&arguments.recording)?;
    let name = arguments.recording.display().to_string();
    let drawn =
        events(schema.as_ref(), recording, arguments.limit).map_err(|failure| failure.at(&name))?;
    if let Some(complaint) = &drawn.complaint {
        eprintln!("capnp-threads: {name}: {complaint}");
    }
    let page = page(&name, &drawn);
    let output = arguments.output.clone().unwrap_or_else(|| {
        let mut output = arguments.recording.clone().into_os_string();
        output.push(".html");
        output.into()
    });
    std::fs::write(&output, page).map_err(|error| {
        Failure::command(format_args!("cannot write {}: {error}", output.display()))
    })?;
    crate::print(&format!("{}\n", output.display()))
}

/// The page of a recording that is in memory.
///
/// # Errors
/// Nothing of it can be read.
#[cfg(any(test, fuzzing))]
pub(crate) fn draw(schema: Option<&Schema>, bytes: &[u8], limit: usize) -> Result<String> {
    Ok(page("recording", &events(schema, Recording::new(bytes), limit)?))
}

/// What is drawn.
struct Drawn {
    events: Vec<Value>,
    /// Why not everything is.
    complaint: Option<String>,
}

/// Reads a recording, as far as it can be read.
///
/// # Errors
/// Nothing of it can.
fn events(schema: Option<&Schema>, recording: Recording<impl Read>, limit: usize) -> Result<Drawn> {
    let mut drawn = Drawn { events: Vec::new(), complaint: None };
    let mut talks: HashMap<u32, Connection> = HashMap::new();
    for event in recording {
        match event {
            Ok(_) if drawn.events.len() >= limit => {
                let complaint =
                    format!("only the first {limit} events are drawn; --limit draws more");
                drawn.complaint = Some(complaint);
                break;
            }
            Ok(event) => {
                let talk = talks.entry(event.connection).or_default();
                let place = drawn.events.len();
                drawn.events.push(talk.told(schema, place, &event));
            }
            Err(failure) if drawn.events.is_empty() => return Err(failure),
            Err(failure) => drawn.complaint = Some(format!("the end is missing: {failure}")),
        }
    }
    Ok(drawn)
}

/// One connection, as far as what follows has to be matched with what was.
#[derive(Default)]
struct Connection {
    talk: Talk,
    /// The place of the message that asked a question which has not been finished.
    questions: HashMap<(Side, u32), usize>,
    /// The place of the message that began an embargo.
    embargoes: HashMap<(Side, u32), usize>,
}

impl Connection {
    /// An event as the page wants it: short names, because there are many.
    ///
    /// | name | is |
    /// |---|---|
    /// | `t` | the time in microseconds |
    /// | `c` | the connection |
    /// | `f` | who said it: 0 the client, 1 the server |
    /// | `k` | what kind it is |
    /// | `q` | the question |
    /// | `m` | the method |
    /// | `g` | what is called |
    /// | `x` | the content |
    /// | `e` | 1 if it is a failure |
    /// | `r` | the place of the event that this one answers or ends |
    /// | `p` | the place of the call on whose results this is a call |
    /// | `b` | the embargo |
    /// | `l` | all in one line |
    fn told(&mut self, schema: Option<&Schema>, place: usize, event: &Event) -> Value {
        let mut told = Map::new();
        #[expect(clippy::cast_precision_loss, reason = "a place on the screen")]
        told.insert("t".to_owned(), json!(event.time as f64 / 1000.0));
        told.insert("c".to_owned(), json!(event.connection));
        let mut put = |name: &str, value: Value| {
            told.insert(name.to_owned(), value);
        };
        match &event.what {
            What::Opened(peer) => {
                put("k", json!("opened"));
                put("l", json!(peer));
            }
            What::Ended(from, failure) => {
                put("k", json!("ended"));
                put("f", json!(i32::from(*from == Side::Server)));
                put("l", json!(failure.as_deref().unwrap_or("end of stream")));
                if failure.is_some() {
                    put("e", json!(1));
                }
            }
            What::Message(from, message) => {
                let said = self.talk.hear(schema, *from, message);
                put("f", json!(i32::from(*from == Side::Server)));
                self.related(*from, place, &said, &mut put);
                put("k", json!(said.kind));
                put("l", json!(said.line));
                if said.failed {
                    put("e", json!(1));
                }
                for (name, value) in [("m", &said.method), ("x", &said.content)] {
                    if let Some(value) = value {
                        put(name, json!(value));
                    }
                }
                if let Some(Target::Capability(number, interface)) = &said.target {
                    let interface = interface.as_deref().unwrap_or("object");
                    put("g", json!(format!("{interface} {number}")));
                }
            }
        }
        Value::Object(told)
    }

    /// What an event has to do with those before it.
    fn related(
        &mut self,
        from: Side,
        place: usize,
        said: &Said,
        put: &mut impl FnMut(&str, Value),
    ) {
        if let Some(Target::Answer(question)) = said.target
            && let Some(call) = self.questions.get(&(from, question))
        {
            put("p", json!(call));
        }
        if let Some((id, is_end)) = said.embargo {
            put("b", json!(id));
            if !is_end {
                self.embargoes.insert((from, id), place);
            } else if let Some(begin) = self.embargoes.remove(&(from.other(), id)) {
                put("r", json!(begin));
            }
        }
        let Some(question) = said.question else { return };
        put("q", json!(question));
        let asked = match said.kind {
            "bootstrap" | "call" => {
                self.questions.insert((from, question), place);
                None
            }
            "return" => self.questions.get(&(from.other(), question)).copied(),
            "finish" => self.questions.remove(&(from, question)),
            _ => None,
        };
        if let Some(asked) = asked {
            put("r", json!(asked));
        }
    }
}

/// The page with everything in it. What vats said cannot get out of the data: they have
/// no `<`.
fn page(name: &str, drawn: &Drawn) -> String {
    let data = json!({
        "name": name,
        "complaint": drawn.complaint,
        "events": drawn.events,
    });
    let data = data.to_string().replace('<', "\\u003c");
    PAGE.replacen(DATA, &data, 1)
}
