//! One comparison of capabilities: Note [join].
//!
//! # State model
//!
//! ```text
//! Resolving ──all resolved, and the answer is known here─────────► Over
//!     └──all resolved: Joins sent──► Asking ──enough answered────► Over
//!
//! Resolving, Asking ──given up, or something has failed──► Over
//! ```
//!
//! - **Resolving**: the first promise among the capabilities is watched.
//! - **Asking**: each different capability was asked. Two answers that differ end the
//!   comparison, and so does an error. What is still asked is given up then.
//! - **Over**: the cell has its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{number, results};
use crate::cap::call::{CallCell, Interest, Queue, Queued, Sink};
use crate::cap::client::Client;
use crate::cap::connection::{self, Connection};
use crate::cap::delivery::{Delivery, JoinRequest, cancelled};
use crate::cap::effects::{self, Effect};
use crate::cap::payload::Outcome;
use crate::cap::pending::Pending;
use crate::cap::watch::{Observer, Watcher};
use crate::error::{ErrorKind, Result};
use crate::sync::Mutex;
use crate::wire::{Hint, JoinKey, JoinPart, Nonce};
use crate::work::origin;

/// Begins to compare capabilities.
pub(crate) fn compare(clients: Vec<Client>) -> Pending {
    let (cell, interest) = CallCell::new(Sink::Here, Hint::None, origin::current());
    let this = Arc::new(Comparing {
        cell: Arc::clone(&cell),
        state: Mutex::new(State::Resolving(clients)),
    });
    let queue = Arc::downgrade(&this);
    cell.queued_in(Queue::Other(queue), 0);
    // The cell keeps the comparison, and the comparison the cell, until this.
    let kept = Arc::clone(&this);
    cell.tell_when_done(Box::new(move |_| kept.becomes_over()));
    this.resolve();
    Pending::new(interest)
}

struct Comparing {
    cell: Arc<CallCell>,
    /// The lock is a leaf.
    state: Mutex<State>,
}

enum State {
    Resolving(Vec<Client>),
    Asking {
        form: Form,
        /// Whether one of them is null, and peers say that they host all others.
        null_or_settled: bool,
        /// Dropping these gives up what is asked.
        _asked: Vec<Interest>,
        answers: Vec<Option<Said>>,
    },
    Over,
}

#[derive(Clone, Copy)]
enum Form {
    Parts { join: u32 },
    Nonce(Nonce),
}

/// What was answered for one capability.
#[derive(Clone, PartialEq, Eq)]
enum Said {
    /// By parts: whether all are the same.
    All(bool),
    /// By nonce.
    Name(number::Answer),
}

/// What is known of capabilities that are resolved.
enum Known {
    Same(bool),
    /// These are different references, of which at least one is a peer's.
    Open(Vec<Client>),
}

impl Comparing {
    /// Waits for the next promise, or goes on if there is none.
    ///
    /// Must not be called under a lock.
    fn resolve(self: &Arc<Self>) {
        loop {
            let clients = match &*self.state.lock() {
                State::Resolving(clients) => clients.clone(),
                State::Asking { .. } | State::Over => return,
            };
            let clients: Vec<Client> = clients.iter().map(Client::shortened).collect();
            let Some(promise) = clients.iter().find(|client| client.is_promise()) else {
                return self.decide(&clients);
            };
            let this: Arc<dyn Observer> = Arc::clone(self) as _;
            if promise.watch(Watcher::Observer(Arc::downgrade(&this))).is_ok() {
                return;
            }
        }
    }

    fn decide(self: &Arc<Self>, clients: &[Client]) {
        let asked = known(clients).and_then(|known| match known {
            Known::Same(same) => {
                self.finish(Ok(same));
                Ok(())
            }
            Known::Open(clients) => self.ask(&clients),
        });
        if let Err(error) = asked {
            self.finish(Err(error));
        }
    }

    /// # Errors
    /// The system gives no random bytes.
    fn ask(self: &Arc<Self>, clients: &[Client]) -> Result<()> {
        let form = match u16::try_from(clients.len()) {
            Ok(_) if of_one_peer(clients) => Form::Parts { join: next_join() },
            _ => Form::Nonce(number::random()?),
        };
        let null_or_settled = clients.iter().any(Client::is_null)
            && clients.iter().all(|client| client.is_null() || client.is_settled_import());
        let cells: Vec<_> = clients
            .iter()
            .map(|_| CallCell::new(Sink::Here, Hint::None, self.cell.origin()))
            .collect();
        let (cells, asked): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
        {
            let mut state = self.state.lock();
            if !matches!(*state, State::Resolving(_)) {
                return Ok(());
            }
            let answers = vec![None; clients.len()];
            let asking = State::Asking { form, null_or_settled, _asked: asked, answers };
            let before = std::mem::replace(&mut *state, asking);
            drop(state);
            drop(before);
        }
        let count = u16::try_from(clients.len()).unwrap_or(u16::MAX);
        for ((number, client), cell) in (0..).zip(clients).zip(cells) {
            let key = match form {
                Form::Parts { join } => JoinKey::Part(JoinPart { join, count, number }),
                Form::Nonce(nonce) => JoinKey::Nonce(nonce),
            };
            let this = Arc::clone(self);
            cell.tell_when_done(Box::new(move |outcome| {
                this.answered(usize::from(number), outcome);
            }));
            client.clone().deliver(Delivery::Join(JoinRequest { key, cell }));
        }
        Ok(())
    }

    /// Must not be called under a lock.
    fn answered(&self, number: usize, outcome: &Outcome) {
        let decided = {
            let mut state = self.state.lock();
            let State::Asking { form, null_or_settled, answers, .. } = &mut *state else { return };
            let said = outcome.clone().and_then(|payload| match form {
                Form::Parts { join } => Ok(Said::All(results::part(&payload, *join)?)),
                Form::Nonce(_) => Ok(Said::Name(results::name(&payload)?)),
            });
            match said {
                // The peer can say no more of it than that it is settled, and not null.
                Err(error) if *null_or_settled && error.kind() == ErrorKind::Unimplemented => {
                    Some(Ok(false))
                }
                Err(error) => Some(Err(error)),
                Ok(said) => {
                    if let Some(answer) = answers.get_mut(number) {
                        *answer = Some(said);
                    }
                    conclusion(answers).map(Ok)
                }
            }
        };
        if let Some(decided) = decided {
            self.finish(decided);
        }
    }

    /// Must not be called under a lock.
    fn finish(&self, outcome: Result<bool>) {
        self.cell.left_queue();
        self.cell.complete(outcome.map(results::found));
    }

    fn becomes_over(&self) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Over);
        drop(before);
    }
}

impl Observer for Comparing {
    fn tell(self: Arc<Self>) {
        self.resolve();
    }
}

impl Queued for Comparing {
    /// Nobody wants the answer any more.
    fn withdraw(&self, _place: u64) {
        effects::defer(Effect::Complete(Arc::clone(&self.cell), Err(cancelled())));
    }
}

/// What is known here.
///
/// # Errors
/// One of the capabilities is broken.
fn known(clients: &[Client]) -> Result<Known> {
    let mut different: Vec<Client> = Vec::new();
    let mut here = 0;
    for client in clients {
        if let Some(error) = client.broken_by() {
            return Err(error.clone());
        }
        let client = client.object().unwrap_or_else(|| client.clone());
        // Null has the address 0, and nothing that is broken is here.
        if different.iter().all(|other| other.address() != client.address()) {
            here += usize::from(client.connection().is_none());
            different.push(client);
        }
    }
    Ok(match different.len() {
        0 | 1 => Known::Same(true),
        _ if here > 1 => Known::Same(false),
        // A peer may stand in, for good, for what is null elsewhere. So null is no answer.
        _ => Known::Open(different),
    })
}

/// What follows from the answers so far.
fn conclusion(answers: &[Option<Said>]) -> Option<bool> {
    let known: Vec<&Said> = answers.iter().flatten().collect();
    if known.contains(&&Said::All(false)) || known.windows(2).any(|pair| pair[0] != pair[1]) {
        return Some(false);
    }
    (known.len() == answers.len()).then_some(true)
}

/// Whether one peer hosts all of them, for good.
fn of_one_peer(clients: &[Client]) -> bool {
    let connections: Option<Vec<&dyn Connection>> = clients
        .iter()
        .map(|client| client.connection().filter(|_| client.is_settled_import()))
        .collect();
    connections.is_some_and(|all| all.windows(2).all(|pair| connection::is_same(pair[0], pair[1])))
}

/// A number by which the peer tells the joins of this vat apart.
fn next_join() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::SeqCst)
}
