//! `capnp-threads call`: a call that is made by hand.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capnp::traits::{Imbue, ImbueMut};
use capnp_threads::description;
use capnp_threads_core::hook::{self, CapTable};
use capnp_threads_core::untyped::{Dispatch, IncomingCall, Payload, PayloadBuilder, Pending};
use capnp_threads_core::{Client, ConnConfig, Connection, Error, Vat};
use serde_json::Value;

use crate::dynamic::{self, Out};
use crate::failure::{Failure, Result};
use crate::json;
use crate::reach::{Destination, Identity};
use crate::schema::{Brand, Named, Place, Schema, Type, list};

mod path;

use path::{Path, Step};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the server is: `host:port`, `unix:/path`, `unix-abstract:name` or
    /// `tls:VATID@host:port`
    address: Destination,
    /// The schema, FILE.capnp, or what `capnp compile -o- FILE.capnp` wrote. It may be left
    /// out if the server describes itself
    #[arg(value_name = "SCHEMA")]
    first: String,
    /// What is called: Interface.method, or Interface.method({...}).field.method to go on
    /// from a result. The interface is that of the server's bootstrap object
    #[arg(value_name = "PATH")]
    second: Option<String>,
    /// The parameters of the last method, as JSON
    #[arg(value_name = "PARAMS")]
    third: Option<String>,
    /// A capability that parameters and paths can name: NAME=PATH, to be used as "$NAME"
    #[arg(long = "let", value_name = "NAME=PATH")]
    lets: Vec<String>,
    /// Where `import "/..."` looks
    #[arg(short = 'I', long = "import-path", value_name = "FOLDER")]
    import_paths: Vec<PathBuf>,
    /// How long to wait for the connection and the result, in seconds
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    timeout: f64,
    /// Print the result on one line
    #[arg(long)]
    short: bool,
    /// After the result, stay so many seconds, or until the server ends the connection, for
    /// calls to "$print"
    #[arg(long, value_name = "SECONDS")]
    wait: Option<f64>,
    #[command(flatten)]
    identity: Identity,
}

/// The longest result that is printed, in bytes of JSON.
const MAX_RESULT: usize = 256 << 20;

/// Makes the call and prints its result.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let timeout = Duration::try_from_secs_f64(arguments.timeout)
        .map_err(|_| Failure::command("--timeout has to be a number of seconds"))?;
    let wait = arguments.wait.map(Duration::try_from_secs_f64).transpose();
    let wait = wait.map_err(|_| Failure::command("--wait has to be a number of seconds"))?;
    let deadline = Instant::now() + timeout.min(Duration::from_secs(1 << 30));
    let Words { schema, path, params } = Words::of(arguments)?;
    let given = schema.map(|file| Schema::load(&[file.into()], &arguments.import_paths));
    let given = given.transpose()?;
    let mut path = path::parse(path)?;
    if let Some(text) = params {
        give_params(&mut path, text)?;
    }
    let mut lets = Vec::new();
    for text in &arguments.lets {
        let (name, path) = text
            .split_once('=')
            .ok_or_else(|| Failure::command(format_args!("--let {text}: write --let NAME=PATH")))?;
        lets.push((format!("${}", name.trim()), path::parse(path)?));
    }

    let vat = Vat::new();
    let transport = arguments.identity.connect(&arguments.address, Some(timeout))?;
    let connection = vat.connect(transport, ConnConfig::new())?;
    let schema = Arc::new(match given {
        Some(schema) => schema,
        None => described(&connection, deadline)?,
    });
    let mut caller = Caller {
        schema: &schema,
        bootstrap: connection.bootstrap(),
        printer: vat.export_dispatch(Arc::new(Printer { schema: Arc::clone(&schema) })),
        named: BTreeMap::new(),
        pending: Vec::new(),
        deadline,
    };
    let outcome = (|| {
        for (name, path) in lets {
            let at =
                caller.follow(&path).map_err(|failure| failure.at(format_args!("--let {name}")))?;
            let named =
                at.capability().map_err(|failure| failure.at(format_args!("--let {name}")))?;
            caller.named.insert(name, named);
        }
        let at = caller.follow(&path)?;
        caller.result(&at)
    })();
    let printed = outcome.and_then(|text| {
        let text = if arguments.short { text } else { json::pretty(&text) };
        crate::print(&format!("{text}\n"))
    });
    if let (Some(wait), true) = (wait, printed.is_ok()) {
        // That the server has ended the connection is no failure.
        let _ = connection.join_timeout(wait);
    }
    drop(caller);
    connection.close();
    printed
}

/// The words behind the address, told from each other.
struct Words<'a> {
    schema: Option<&'a str>,
    path: &'a str,
    params: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn of(arguments: &'a Arguments) -> Result<Self> {
        let (second, third) = (arguments.second.as_deref(), arguments.third.as_deref());
        let (schema, path, params) = match (arguments.first.as_str(), second, third) {
            (schema, Some(path), Some(params)) => (Some(schema), path, Some(params)),
            // Parameters are an object. No path begins like one.
            (path, Some(params), None) if params.trim_start().starts_with('{') => {
                (None, path, Some(params))
            }
            (schema, Some(path), None) => (Some(schema), path, None),
            (path, None, _) => (None, path, None),
        };
        let is_file = std::path::Path::new(path).extension().is_some_and(|end| end == "capnp");
        if schema.is_none() && is_file {
            return Err(Failure::command(format_args!("name a method behind {path}")));
        }
        Ok(Words { schema, path, params })
    }
}

/// The schema that the server gives of itself.
fn described(connection: &Connection, deadline: Instant) -> Result<Schema> {
    let time = deadline.saturating_duration_since(Instant::now());
    let said =
        description::of(connection).schema_request().call_timeout(time).map_err(|error| {
            let advice = "the server does not describe itself; name its schema before the path";
            Failure::from(error).unless_connection(advice)
        })?;
    let said = said.get()?;
    let schema = Schema::of_peer(said.get_request()?);
    schema.map_err(|failure| failure.at("what the server says of itself"))
}

/// Gives the last step its parameters, which stand behind the path on the command line.
fn give_params(path: &mut Path, text: &str) -> Result<()> {
    let params: Value = serde_json::from_str(text)
        .map_err(|error| Failure::command(format_args!("the parameters are not JSON: {error}")))?;
    match path.steps.last_mut() {
        Some(step) if step.params.is_none() => {
            step.params = Some(params);
            Ok(())
        }
        _ => Err(Failure::command(
            "the parameters of the last method are given twice: in parentheses and behind the path",
        )),
    }
}

/// Follows paths, and makes the calls on the way.
struct Caller<'a> {
    schema: &'a Schema,
    bootstrap: Client,
    /// An object that prints the calls that it gets.
    printer: Client,
    /// What `--let` named.
    named: BTreeMap<String, (Client, Named)>,
    /// Calls that others are pipelined on. They go on as long as they are kept.
    pending: Vec<Pending>,
    deadline: Instant,
}

/// Where a path has come.
enum At {
    /// At a capability.
    Capability(Client, Named),
    /// In the results of a call, which may not have arrived.
    Results {
        /// The call, by its place in [`Caller::pending`].
        call: usize,
        /// The type of all results.
        all: Named,
        /// The fields that lead to the place in the results.
        fields: Vec<String>,
        /// The pointers that do.
        pointers: Vec<u16>,
        /// The type of what is there; a group has an id of its own.
        of: Type,
        brand: Brand,
    },
}

impl At {
    /// The capability there.
    fn capability(self) -> Result<(Client, Named)> {
        match self {
            At::Capability(client, named) => Ok((client, named)),
            At::Results { .. } => Err(Failure::command(
                "the path ends at a result, and not at a capability; go on with a field of it",
            )),
        }
    }
}

impl Caller<'_> {
    /// Makes the calls of a path. Does not wait for their results.
    fn follow(&mut self, path: &Path) -> Result<At> {
        let (mut at, used) = self.start(path)?;
        for step in &path.steps[used..] {
            at = self.step(at, step).map_err(|failure| failure.at(&step.name))?;
        }
        Ok(at)
    }

    fn start(&self, path: &Path) -> Result<(At, usize)> {
        let names: Vec<_> = path.steps.iter().map(|step| step.name.as_str()).collect();
        let first = names.first().copied().unwrap_or_default();
        let (start, used) = if first.starts_with('$') {
            let (client, named) = self.named.get(first).ok_or_else(|| self.unnamed(first))?;
            (At::Capability(client.clone(), named.clone()), 1)
        } else {
            let (interface, used) = self.schema.interface_at(&names)?;
            (At::Capability(self.bootstrap.clone(), Named::plain(interface)), used)
        };
        if let Some(step) = path.steps[..used].iter().find(|step| step.params.is_some()) {
            return Err(Failure::command(format_args!("{} is no method", step.name)));
        }
        if path.steps.len() == used
            && let At::Capability(_, named) = &start
        {
            let methods = self.schema.methods(named)?;
            let names: Vec<_> = methods.iter().map(|method| method.name.as_str()).collect();
            let (name, methods) = (self.schema.label(named.id), list(&names));
            return Err(Failure::command(format_args!("name a method of {name}: {methods}")));
        }
        Ok((start, used))
    }

    fn unnamed(&self, name: &str) -> Failure {
        let names: Vec<_> = self.named.keys().map(String::as_str).collect();
        let names = list(&names);
        let bare = name.trim_start_matches('$');
        Failure::command(format_args!(
            "nothing is called {name}; write --let {bare}=PATH before it is used (there is {names})"
        ))
    }

    fn step(&mut self, at: At, step: &Step) -> Result<At> {
        match at {
            At::Capability(client, interface) => self.call(&client, &interface, step),
            At::Results { call, all, fields, pointers, of, brand } => {
                if let Some(found) = self.field(&of, &brand, &step.name)? {
                    if step.params.is_some() {
                        return Err(Failure::command("it is a field, and takes no parameters"));
                    }
                    let mut fields = fields;
                    fields.push(step.name.clone());
                    return Ok(self.at_field(call, all, fields, pointers, found, &brand));
                }
                // Results that hold one capability may be left out of the path.
                if let Some((name, found)) = self.only_capability(&of, &brand)? {
                    let mut fields = fields;
                    fields.push(name);
                    let at = self.at_field(call, all, fields, pointers, found, &brand);
                    if let At::Capability(client, interface) = &at
                        && self.schema.method(interface, &step.name).is_ok()
                    {
                        return self.call(client, interface, step);
                    }
                }
                Err(self.no_field(&of, &step.name))
            }
        }
    }

    fn no_field(&self, of: &Type, name: &str) -> Failure {
        let Type::Struct(named) = of else {
            return Failure::command(format_args!("there is {}, which has no fields", of.noun()));
        };
        let declared = match self.schema.structure(named.id) {
            Ok(declared) => declared,
            Err(failure) => return failure,
        };
        let fields = declared.fields().unwrap_or_default();
        let names: Vec<_> = fields.iter().map(|field| field.name).collect();
        let of = declared.name();
        Failure::command(format_args!("no field {name:?} in {of}; there is {}", list(&names)))
    }

    fn field(&self, of: &Type, brand: &Brand, name: &str) -> Result<Option<Place<'_>>> {
        let Type::Struct(named) = of else { return Ok(None) };
        let field = self.schema.structure(named.id)?.field(name)?;
        field.map(|field| field.place(brand)).transpose()
    }

    fn only_capability(&self, of: &Type, brand: &Brand) -> Result<Option<(String, Place<'_>)>> {
        let Type::Struct(named) = of else { return Ok(None) };
        let mut found = None;
        for field in self.schema.structure(named.id)?.fields()? {
            let place = field.place(brand)?;
            if matches!(place, Place::Slot(Type::Interface(_), ..)) {
                if found.is_some() {
                    return Ok(None);
                }
                found = Some((field.name.to_owned(), place));
            }
        }
        Ok(found)
    }

    fn at_field(
        &self,
        call: usize,
        all: Named,
        fields: Vec<String>,
        mut pointers: Vec<u16>,
        place: Place<'_>,
        around: &Brand,
    ) -> At {
        let (of, brand) = match place {
            Place::Group(id) => (Type::Struct(Named::plain(id)), around.clone()),
            Place::Slot(of, offset, _) => {
                // The schema compiler gives no field a larger number.
                pointers.push(u16::try_from(offset).unwrap_or(u16::MAX));
                match of {
                    Type::Interface(named) => {
                        return At::Capability(self.pending[call].pipelined(&pointers), named);
                    }
                    Type::Struct(named) => {
                        let brand = named.brand.clone();
                        (Type::Struct(named), brand)
                    }
                    of => (of, Brand::default()),
                }
            }
        };
        At::Results { call, all, fields, pointers, of, brand }
    }

    /// Starts a call.
    fn call(&mut self, client: &Client, interface: &Named, step: &Step) -> Result<At> {
        let method = self.schema.method(interface, &step.name)?;
        let lookup = |name: &str, _: &Named| match name {
            "$bootstrap" => Ok(self.bootstrap.clone()),
            "$print" => Ok(self.printer.clone()),
            name => match self.named.get(name) {
                Some((client, _)) => Ok(client.clone()),
                None => Err(self.unnamed(name)),
            },
        };
        let mut builder = PayloadBuilder::for_params();
        let mut table = CapTable::new();
        let mut content = builder.content();
        content.imbue_mut(&mut table);
        let empty = dynamic::empty();
        let params = step.params.as_ref().unwrap_or(&empty);
        dynamic::write(self.schema, &lookup, &method.params, params, content)?;
        let payload = builder.finish(hook::clients_of(table));
        self.pending.push(client.call_deadline(
            method.interface,
            method.number,
            payload,
            self.deadline,
        ));
        let all = method.results;
        Ok(At::Results {
            call: self.pending.len() - 1,
            of: Type::Struct(all.clone()),
            brand: all.brand.clone(),
            all,
            fields: Vec::new(),
            pointers: Vec::new(),
        })
    }

    /// Waits for the results in which a path ends, and writes them as JSON.
    fn result(&self, at: &At) -> Result<String> {
        let At::Results { call, all, fields, .. } = at else {
            return Err(Failure::command(
                "the path ends at a capability; go on with one of its methods",
            ));
        };
        let payload = self.pending[*call].wait_deadline(self.deadline)?;
        text_of(self.schema, &payload, all, fields)
    }
}

/// Content, or what some fields lead to in it, as JSON.
fn text_of(schema: &Schema, payload: &Payload, of: &Named, fields: &[String]) -> Result<String> {
    let reader = payload.open();
    let mut content = Payload::content(&reader)?;
    let table = hook::table_of(payload.caps());
    content.imbue(&table);
    let capability = |_: &Client, interface| {
        format!("{{\"$capability\": {}}}", Value::from(schema.label(interface)))
    };
    let mut out = Out::new(schema, MAX_RESULT, &capability);
    dynamic::read(&mut out, of, fields, content)?;
    Ok(out.into_text())
}

/// An object of every interface in the schema: it prints the calls that it gets, and
/// answers them with empty results.
struct Printer {
    schema: Arc<Schema>,
}

impl Printer {
    fn print(&self, call: &IncomingCall) -> capnp_threads_core::Result<()> {
        let (interface, number) = (call.interface_id(), call.method_id());
        let Some(method) = self.schema.method_by_number(interface, number) else {
            let reason = format!("the schema has no method {number} of {interface:#018x}");
            return Err(Error::unimplemented(reason));
        };
        let name = format!("{}.{}", self.schema.name_in_file(interface), method.name);
        text_of(&self.schema, call.params(), &method.params, &[])
            .and_then(|params| crate::print(&format!("{name} {params}\n")))
            .map_err(|failure| Error::failed(failure.to_string()))
    }
}

impl Dispatch for Printer {
    fn dispatch(&self, call: IncomingCall) {
        let outcome = self.print(&call).map(|()| Payload::empty().clone());
        call.respond(outcome);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
