//! Telling of work that does not move.
//!
//! Note [stuck workers]
//!
//! While jobs wait for a worker, or workers wait for something, a thread looks at them
//! every [`PoolConfig::patience`](super::pool::PoolConfig::patience). What is as it was
//! at the look before is *stuck*, and is told once:
//!
//! - the jobs of an origin wait, and none of them has begun: the objects that have the
//!   workers are named;
//! - a method waits for a call that waits behind the method of a serial object. If that
//!   method waits in turn, and so on until the first object comes again, then they wait
//!   for ever;
//! - calls wait behind a method that waits for something outside of this vat.
//!
//! Progress is counted, and not measured: looks know no clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::executor::Calls;
use super::origin::Origin;
use super::pool::{Phase, Pool};
use super::posts::{Doing, Post, Waits};
use super::role::{self, Role};
use super::waiting;
use crate::deadline::Deadline;
use crate::log::tell;

/// Maximum number of kinds of objects that one warning names.
const MAX_NAMES: usize = 8;

/// Looks for what is stuck, until nothing waits or the pool is closed.
pub(super) fn run(pool: &Arc<Pool>) {
    // The last reference to an object may be dropped here: its destructor must not wait.
    role::assume(Role::Coordinator(Arc::downgrade(pool)));
    let mut watch = Watch::default();
    loop {
        let closed = waiting::park(
            pool.state(),
            |state| &mut state.watcher,
            Deadline::after(pool.patience()),
            |state, _| (state.phase == Phase::Closed).then_some(()),
        );
        let mut state = pool.state().lock();
        if closed.is_some() || state.shares.is_calm() {
            let called = state.watch_ends();
            drop(state);
            return called.wake_now();
        }
        drop(state);
        for warning in watch.look(pool) {
            tell!(WARN, "{warning}");
        }
    }
}

/// What was seen at earlier looks.
#[derive(Default)]
pub(crate) struct Watch {
    posts: HashMap<Post, Seen>,
    queues: HashMap<Origin, Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    /// Another number means that something has happened.
    progress: (u64, u64),
    looks: u64,
}

/// The look at which something is told.
const TELL: u64 = 2;

/// A worker with a job, and whether it is stuck.
struct Looked {
    doing: Doing,
    looks: u64,
}

impl Watch {
    /// Returns what to warn of.
    ///
    /// Must not be called under a lock.
    pub(crate) fn look(&mut self, pool: &Pool) -> Vec<String> {
        let (doing, queues) = {
            let state = pool.state().lock();
            (state.posts.doing(), state.shares.queues())
        };
        let mut posts = HashMap::new();
        let looked: Vec<_> = doing
            .into_iter()
            .map(|doing| {
                let begun = doing.object.as_ref().map_or(0, |object| object.begun());
                let seen = Seen::again(self.posts.get(&doing.post), (doing.steps, begun));
                posts.insert(doing.post, seen);
                Looked { doing, looks: seen.looks }
            })
            .collect();
        self.posts = posts;
        let mut warnings = Vec::new();
        let mut seen_queues = HashMap::new();
        for queue in queues {
            let seen = Seen::again(self.queues.get(&queue.origin), (queue.begun, 0));
            seen_queues.insert(queue.origin, seen);
            if seen.looks == TELL {
                warnings.push(format!(
                    "{} calls or closures of {} wait for a worker, and none has begun for {:?}; \
                     the workers are taken by {}",
                    queue.jobs,
                    queue.origin,
                    pool.patience(),
                    takers(&looked),
                ));
            }
        }
        self.queues = seen_queues;
        warnings.extend(lines(&looked));
        warnings
    }
}

impl Seen {
    fn again(before: Option<&Seen>, progress: (u64, u64)) -> Seen {
        match before {
            Some(before) if before.progress == progress => {
                Seen { progress, looks: before.looks + 1 }
            }
            _ => Seen { progress, looks: 1 },
        }
    }
}

fn name_of(object: Option<&Arc<dyn Calls>>) -> String {
    object.map_or_else(|| "a closure of the application".to_owned(), |object| object.name())
}

/// Names the objects that have the stuck workers.
fn takers(looked: &[Looked]) -> String {
    let mut numbers = BTreeMap::<String, (usize, usize)>::new();
    for Looked { doing, .. } in looked.iter().filter(|looked| looked.looks >= TELL) {
        let (run, wait) = numbers.entry(name_of(doing.object.as_ref())).or_default();
        match doing.waits {
            Waits::No => *run += 1,
            Waits::For(_) => *wait += 1,
        }
    }
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_by_key(|(_, (run, wait))| std::cmp::Reverse(run + wait));
    let mut text = String::new();
    for (place, (name, (run, wait))) in numbers.iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        if place == MAX_NAMES {
            let _ = write!(text, "{separator}and {} more", numbers.len() - MAX_NAMES);
            break;
        }
        let _ = write!(text, "{separator}{name} ({run} run, {wait} wait for an answer)");
    }
    if text.is_empty() { "short jobs".to_owned() } else { text }
}

fn address(object: &Arc<dyn Calls>) -> usize {
    Arc::as_ptr(object).cast::<()>() as usize
}

/// A stuck method that waits for a call.
struct Waiting {
    object: Arc<dyn Calls>,
    /// The object behind whose method that call waits.
    behind: Option<Arc<dyn Calls>>,
    /// The peer that was asked, in words.
    asked: Option<String>,
    /// This is the look at which it is told.
    new: bool,
}

/// Says which objects wait behind which.
fn lines(looked: &[Looked]) -> Vec<String> {
    let waiting = looked.iter().filter_map(|Looked { doing, looks }| {
        let (object, Waits::For(awaited)) = (doing.object.as_ref()?, &doing.waits) else {
            return None;
        };
        let behind = awaited.as_ref().and_then(|awaited| awaited.behind());
        let asked = awaited.as_ref().and_then(|awaited| awaited.awaited_peer());
        let waiting = Waiting { object: Arc::clone(object), behind, asked, new: *looks == TELL };
        (*looks >= TELL).then(|| (address(object), waiting))
    });
    let waiting: HashMap<usize, Waiting> = waiting.collect();
    let mut told = HashSet::new();
    let mut warnings = Vec::new();
    for (start, first) in waiting.iter().filter(|(_, first)| first.new) {
        if !told.insert(*start) {
            continue;
        }
        let mut path = vec![*start];
        let mut text = first.object.name();
        let mut last = first;
        let circle = loop {
            let Some(behind) = &last.behind else { break false };
            let _ = write!(text, " waits behind {}", behind.name());
            let next = address(behind);
            if path.contains(&next) {
                break true;
            }
            path.push(next);
            match waiting.get(&next) {
                Some(next) => last = next,
                None => break false,
            }
        };
        if circle {
            told.extend(path);
            warnings.push(format!(
                "serial objects wait for each other, and will do so for ever: {text}; \
                 let one of them be Concurrent, defer its answer, or make a tail call"
            ));
        } else if path.len() > 1 {
            warnings.push(format!("a call makes no progress: {text}"));
        } else if first.object.waiting() > 0 {
            let of = first.asked.as_ref().map(|peer| format!(" of {peer}")).unwrap_or_default();
            warnings.push(format!(
                "{} calls wait behind a method of {text}, which waits for an answer{of}",
                first.object.waiting()
            ));
        }
    }
    warnings
}
