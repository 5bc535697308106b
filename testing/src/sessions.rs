//! Two vats of a network that begin and end sessions with each other, both at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use capnp::Word;
use capnp_threads_core::message::Message;
use capnp_threads_core::network::{Accepted, Reached, VatNetwork};
use capnp_threads_core::transport::Transport;

use crate::content;

/// What one side saw of one session: the number that it sent, and the one that it got.
type Seen = (u64, u64);

/// A message with a number in it.
pub fn numbered(number: u64) -> Message {
    let mut words = Word::allocate_zeroed_vec(1);
    Word::words_to_bytes_mut(&mut words).copy_from_slice(&number.to_le_bytes());
    Message::from_segments(words, &[1]).unwrap()
}

/// The number in a message.
pub fn number_of(message: &Message) -> u64 {
    u64::from_le_bytes(content(message)[0].clone().try_into().unwrap())
}

/// Has each of two vats try so often to begin a session with the other, and accept those that
/// the other begins. `exchange` sends a number over a session, ends it, and returns the number
/// that has come. Those of the first vat are odd.
///
/// Panics unless both have seen the same sessions. A side that panics ends the waits of the
/// other one.
pub fn both_mean_the_same<N: VatNetwork>(
    [alice, bob]: [(&N, N::VatId); 2],
    attempts: usize,
    exchange: impl Fn(Transport, u64) -> u64 + Sync,
) {
    let counter = AtomicU64::new(0);
    let seen = |transport, parity| {
        let number = 2 * counter.fetch_add(1, Ordering::Relaxed) + parity;
        (number, exchange(transport, number))
    };
    let (alice_done, alice_is_done) = mpsc::channel();
    let (bob_done, bob_is_done) = mpsc::channel();
    let (mut one, mut other) = thread::scope(|scope| {
        let one = Side { own: alice.0, other: bob.1, attempts };
        let other = Side { own: bob.0, other: alice.1, attempts };
        let seen = &seen;
        let one = scope.spawn(move || one.run(|it| seen(it, 1), alice_done, bob_is_done));
        let other = scope.spawn(move || other.run(|it| seen(it, 0), bob_done, alice_is_done));
        (one.join().unwrap(), other.join().unwrap())
    });
    one.sort_unstable();
    other.iter_mut().for_each(|(own, theirs)| std::mem::swap(own, theirs));
    other.sort_unstable();
    assert!(one.len() > 1);
    assert_eq!(one, other);
}

struct Side<'a, N: VatNetwork> {
    own: &'a N,
    other: N::VatId,
    attempts: usize,
}

impl<N: VatNetwork> Side<'_, N> {
    /// `done` is dropped when this side has tried enough, and `both` ends when the other has.
    fn run(
        self,
        seen: impl Fn(Transport) -> Seen + Sync,
        done: Sender<()>,
        both: Receiver<()>,
    ) -> Vec<Seen> {
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                let _ended = ShutDown(self.own);
                let mut all = Vec::new();
                while let Some(Accepted { transport, .. }) = self.own.accept().unwrap() {
                    all.push(seen(transport));
                }
                all
            });
            let ended = ShutDown(self.own);
            let mut all = Vec::new();
            for _ in 0..self.attempts {
                match self.own.connect(&self.other).unwrap() {
                    Reached::Peer(transport) => all.push(seen(transport)),
                    // The other thread has it, or is about to.
                    Reached::Crossed => thread::yield_now(),
                    _ => panic!("it is somebody else"),
                }
            }
            drop(done);
            // What was begun is over, so that it was accepted.
            assert!(both.recv().is_err(), "nothing is sent");
            drop(ended);
            all.extend(accepting.join().unwrap());
            all
        })
    }
}

/// Ends the waits for a network, also when its side panics.
struct ShutDown<'a, N: VatNetwork>(&'a N);

impl<N: VatNetwork> Drop for ShutDown<'_, N> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
