//! The network of `peers/cxx-v2/mesh.h` for vats of this library: every vat listens at a Unix
//! socket of its name in a folder that all share, and any two can be introduced.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use capnp_threads_core::capnp;
use capnp_threads_core::capnp::message::{Reader, ReaderOptions};
use capnp_threads_core::message::Message;
use capnp_threads_core::network::{
    Accepted, Completion, Introduced, Introduction, Introductions, Reached, Token, Uses, VatNetwork,
};
use capnp_threads_core::transport::{
    FrameLimits, MessageReader, PeerDescription, Received, Transport, TransportControl,
    TransportError,
};
use capnp_threads_core::{Error, Result};
use capnp_threads_transport::unix;
use parking_lot::{Condvar, Mutex};
use rpc_schema::party_capnp::{awaited, completion, contact, tagged};
use rpc_schema::rpc_capnp::message;
use socket2::SockRef;

/// The network, as one vat has it.
pub(super) struct Mesh {
    folder: PathBuf,
    name: String,
    listener: UnixListener,
    is_shut: AtomicBool,
    forwards: AtomicBool,
    inflows: Mutex<HashMap<String, Arc<Inflow>>>,
}

impl Mesh {
    /// A vat with a name.
    pub(super) fn listening(folder: &Path, name: &str) -> Self {
        Mesh {
            folder: folder.to_owned(),
            name: name.to_owned(),
            listener: UnixListener::bind(folder.join(name)).unwrap(),
            is_shut: AtomicBool::new(false),
            forwards: AtomicBool::new(true),
            inflows: Mutex::default(),
        }
    }

    /// Sets whether contacts are passed on.
    pub(super) fn forward(&self, on: bool) {
        self.forwards.store(on, Ordering::SeqCst);
    }

    /// What comes from a vat, over all connections.
    pub(super) fn inflow(&self, vat: &str) -> Arc<Inflow> {
        Arc::clone(self.inflows.lock().entry(vat.to_owned()).or_default())
    }

    fn transport(&self, stream: UnixStream, peer: &str) -> io::Result<Transport> {
        let Transport { reader, writer, control } = unix::from_stream(stream)?;
        let inflow = self.inflow(peer);
        let ended = Arc::new(AtomicBool::new(false));
        inflow.state.lock().readers += 1;
        let reader = Watched { reader, inflow: Arc::clone(&inflow), ended: Arc::clone(&ended) };
        Ok(Transport {
            reader: Box::new(reader),
            writer,
            control: Arc::new(Control { control, inflow, ended }),
        })
    }

    fn dial(&self, peer: &str) -> io::Result<Transport> {
        let mut stream = UnixStream::connect(self.folder.join(peer))?;
        let length = u8::try_from(self.name.len()).unwrap();
        stream.write_all(&[&[length], self.name.as_bytes()].concat())?;
        self.transport(stream, peer)
    }

    fn welcome(&self) -> io::Result<Accepted<String>> {
        let (mut stream, _) = self.listener.accept()?;
        let mut length = [0];
        stream.read_exact(&mut length)?;
        let mut name = vec![0; usize::from(length[0])];
        stream.read_exact(&mut name)?;
        let peer = String::from_utf8(name).map_err(io::Error::other)?;
        let transport = self.transport(stream, &peer)?;
        Ok(Accepted { peer, transport })
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.folder.join(&self.name));
    }
}

impl VatNetwork for Mesh {
    type VatId = String;

    fn connect(&self, peer: &String) -> Result<Reached> {
        if *peer == self.name {
            return Ok(Reached::Oneself);
        }
        let transport = self.dial(peer);
        transport.map(Reached::Peer).map_err(|error| Error::disconnected(error.to_string()))
    }

    fn accept(&self) -> Result<Option<Accepted<String>>> {
        if self.is_shut.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let accepted = self.welcome();
        if self.is_shut.load(Ordering::SeqCst) {
            return Ok(None);
        }
        accepted.map(Some).map_err(|error| Error::disconnected(error.to_string()))
    }

    fn shutdown(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }

    fn introductions(&self) -> Option<&dyn Introductions<String>> {
        Some(self)
    }
}

fn contact(host: &str, number: u64, sent_by: &str) -> Result<Token> {
    Token::build(|root| {
        let mut contact: contact::Builder<'_> = root.init_as();
        contact.reborrow().init_path().set_host(host);
        contact.set_token(number);
        contact.set_sent_by(sent_by);
        Ok(())
    })
}

/// The host in a contact, and its number.
fn read(contact: &Token, introducer: &str) -> Result<(String, u64)> {
    contact.read(|root| {
        let contact: contact::Reader<'_> = root.get_as()?;
        if contact.get_sent_by()?.to_str()? != introducer {
            return Err(capnp::Error::failed("somebody else has sent this contact".into()));
        }
        Ok((contact.get_path()?.get_host()?.to_string()?, contact.get_token()))
    })
}

impl Introductions<String> for Mesh {
    fn introduce(&self, _: &String, host: &String) -> Option<Introduction> {
        // Introducers know nothing of each other, so they cannot count.
        let number = RandomState::new().build_hasher().finish();
        let contact = contact(host, number, &self.name);
        let awaited = Token::build(|root| {
            root.init_as::<awaited::Builder<'_>>().set_token(number);
            Ok(())
        });
        Some(Introduction { contact: contact.ok()?, awaited: awaited.ok()? })
    }

    fn connect_to_introduced(
        &self,
        introducer: &String,
        contact: &Token,
    ) -> Result<Introduced<String>> {
        let (host, number) = read(contact, introducer)?;
        let completion = Token::build(|root| {
            root.init_as::<completion::Builder<'_>>().set_token(number);
            Ok(())
        })?;
        Ok(Introduced { host, completion })
    }

    fn forward_contact(&self, introducer: &String, contact: &Token, _: &String) -> Option<Token> {
        if !self.forwards.load(Ordering::SeqCst) {
            return None;
        }
        let (host, number) = read(contact, introducer).ok()?;
        self::contact(&host, number, &self.name).ok()
    }

    fn await_third_party(&self, _: &String, awaited: &Token) -> Result<Vec<u8>> {
        let number = awaited.read(|root| Ok(root.get_as::<awaited::Reader<'_>>()?.get_token()))?;
        Ok(number.to_be_bytes().to_vec())
    }

    fn complete_third_party(&self, _: &String, shown: &Token) -> Result<Completion<String>> {
        let number = shown.read(|root| Ok(root.get_as::<completion::Reader<'_>>()?.get_token()))?;
        Ok(Completion { introducer: None, key: number.to_be_bytes().to_vec(), uses: Uses::Any })
    }
}

/// What comes from a vat: counted, and held back when a test wants it.
#[derive(Default)]
pub(super) struct Inflow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    counts: HashMap<u16, u32>,
    hold_behind: Option<u16>,
    is_held: bool,
    readers: usize,
}

impl Inflow {
    /// Reads nothing more behind the next message with this tag, or from now on if it is
    /// `0xffff`.
    pub(super) fn hold(&self, behind: u16) {
        let mut state = self.state.lock();
        (state.hold_behind, state.is_held) = match behind {
            0xffff => (None, true),
            behind => (Some(behind), false),
        };
    }

    /// Reads on.
    pub(super) fn release(&self) {
        let mut state = self.state.lock();
        (state.hold_behind, state.is_held) = (None, false);
        self.changed.notify_all();
    }

    /// How many messages with this tag were read.
    pub(super) fn came(&self, tag: u16) -> u32 {
        self.state.lock().counts.get(&tag).copied().unwrap_or(0)
    }

    /// Whether anybody reads from the vat.
    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().readers > 0
    }

    fn pass(&self, tag: u16, ended: &AtomicBool) {
        let mut state = self.state.lock();
        while state.is_held && !ended.load(Ordering::SeqCst) {
            self.changed.wait(&mut state);
        }
        *state.counts.entry(tag).or_default() += 1;
        if state.hold_behind == Some(tag) {
            (state.hold_behind, state.is_held) = (None, true);
        }
    }
}

struct Watched {
    reader: Box<dyn MessageReader>,
    inflow: Arc<Inflow>,
    ended: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.inflow.state.lock().readers -= 1;
    }
}

impl MessageReader for Watched {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        let message = self.reader.read()?;
        if let Some(message) = &message {
            self.inflow.pass(tag(message), &self.ended);
        }
        Ok(message)
    }

    fn read_next(&mut self) -> Result<Received, TransportError> {
        Ok(self.read()?.map_or(Received::End, Received::Message))
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.reader.set_limits(limits);
    }
}

/// Which of the union of rpc.capnp a message is, as party.capnp counts it.
fn tag(message: &Message) -> u16 {
    let segments: Vec<&[u8]> = message.segments().collect();
    let segments = capnp::message::SegmentArray::new(&segments);
    let reader = Reader::new(segments, ReaderOptions::new());
    let tag = reader.get_root::<tagged::Reader<'_>>().unwrap().get_tag();
    let root: message::Reader<'_> = reader.get_root().unwrap();
    let Ok(message::Finish(finish)) = root.which() else { return tag };
    let of_provide = finish.unwrap().get_question_id() >> 31 != 0;
    if of_provide { 0x8000 | tag } else { tag }
}

struct Control {
    control: Arc<dyn TransportControl>,
    inflow: Arc<Inflow>,
    ended: Arc<AtomicBool>,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        self.control.shutdown();
        self.ended.store(true, Ordering::SeqCst);
        drop(self.inflow.state.lock());
        self.inflow.changed.notify_all();
    }

    fn peer(&self) -> PeerDescription {
        self.control.peer()
    }
}
