//! A link that cuts, delays or stalls what is behind a certain byte.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use capnp_threads_transport::pipe::{PipeControl, PipeWriter, pipe};
use capnp_threads_transport::{PeerDescription, Transport, halves};
use rpc_tests::support::Event;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Both directions end.
    Cut,
    /// What comes behind arrives when everybody else waits.
    Delay,
    /// What comes behind never arrives, until somebody gives the connection up.
    Stall,
}

/// What whoever attends to a link is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The fault has come.
    Fault,
    /// Nothing more comes.
    Over,
}

/// What happens to the bytes of one direction.
pub(super) struct Trouble {
    fault: Fault,
    /// So many bytes arrive in any case.
    at: usize,
    passed: AtomicUsize,
    /// Where writes began.
    begins: Mutex<BTreeSet<usize>>,
    reached: AtomicBool,
    tell: mpsc::Sender<Told>,
    go_on: Event,
    cut: [PipeControl; 2],
}

impl Trouble {
    /// Whether anything is lost.
    pub(super) fn has_harmed(&self) -> bool {
        self.reached.load(Ordering::SeqCst) && matches!(self.fault, Fault::Cut | Fault::Stall)
    }

    /// What lets a late link go on.
    pub(super) fn go_on(&self) -> Event {
        self.go_on.clone()
    }

    /// How many bytes have arrived.
    pub(super) fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// Where writes began.
    pub(super) fn begins(&self) -> BTreeSet<usize> {
        self.begins.lock().unwrap().clone()
    }
}

struct Troubled {
    pipe: PipeWriter,
    trouble: Arc<Trouble>,
}

impl Write for Troubled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let trouble = &self.trouble;
        let passed = trouble.passed();
        trouble.begins.lock().unwrap().insert(passed);
        let before = trouble.at.saturating_sub(passed).min(bytes.len());
        if before == 0 && passed == trouble.at && !trouble.reached.swap(true, Ordering::SeqCst) {
            let _ = trouble.tell.send(Told::Fault);
            match trouble.fault {
                Fault::None => {}
                Fault::Cut => {
                    trouble.cut.iter().for_each(PipeControl::close);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Fault::Delay | Fault::Stall => trouble.go_on.wait(),
            }
        }
        let allowed = if before == 0 { bytes.len() } else { before };
        let written = self.pipe.write(&bytes[..allowed])?;
        trouble.passed.fetch_add(written, Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where something happens on a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) fault: Fault,
    pub(super) from_client: bool,
    /// Behind so many bytes of that direction.
    pub(super) at: usize,
}

/// A link with a client's end and a server's, and what happens to its two directions: from
/// the client, and to it. The fault is told of.
pub(super) fn link(
    place: Place,
    tell: &mpsc::Sender<Told>,
) -> (Transport, Transport, [Arc<Trouble>; 2]) {
    let Place { fault, from_client, at } = place;
    let (server_reader, client_writer) = pipe(512);
    let (client_reader, server_writer) = pipe(512);
    let controls = || [client_writer.control(), server_writer.control()];
    let trouble = |mine: bool| {
        Arc::new(Trouble {
            fault: if mine { fault } else { Fault::None },
            at: if mine { at } else { usize::MAX },
            passed: AtomicUsize::new(0),
            begins: Mutex::default(),
            reached: AtomicBool::new(false),
            tell: tell.clone(),
            go_on: Event::new(),
            cut: controls(),
        })
    };
    let (up, down) = (trouble(from_client), trouble(!from_client));
    let shutdown = |up: &Arc<Trouble>, down: &Arc<Trouble>, controls: [PipeControl; 2]| {
        let troubles = [Arc::clone(up), Arc::clone(down)];
        move || {
            controls.iter().for_each(PipeControl::close);
            troubles.iter().for_each(|trouble| trouble.go_on.set());
        }
    };
    let (here, there) = (shutdown(&up, &down, controls()), shutdown(&up, &down, controls()));
    let client_writer = Troubled { pipe: client_writer, trouble: Arc::clone(&up) };
    let server_writer = Troubled { pipe: server_writer, trouble: Arc::clone(&down) };
    let peer = || PeerDescription::from_address("a bad link");
    (
        halves::join(client_reader, client_writer, peer(), here),
        halves::join(server_reader, server_writer, peer(), there),
        [up, down],
    )
}
