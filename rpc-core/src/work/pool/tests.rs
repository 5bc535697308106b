//! Workers that are shared out among origins, and what is told of those that are stuck.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::ErrorKind;
use crate::transport::PeerDescription;
use crate::work::event::Event;
use crate::work::executor::Calls;
use crate::work::origin::Introduction;
use crate::work::watch::Watch;

fn pool(adjust: impl FnOnce(&mut PoolConfig)) -> Arc<Pool> {
    let mut config = PoolConfig { patience: Duration::MAX, ..PoolConfig::default() };
    adjust(&mut config);
    Pool::new("test".to_owned(), config)
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_is_not_looked_at_without_a_pause() {
    assert_eq!(pool(|config| config.patience = Duration::ZERO).patience(), PAUSE);
    assert_eq!(pool(|config| config.patience = Duration::MAX).patience(), Duration::MAX);
}

/// Note [memory peak].
#[test]
fn a_pool_forgets_the_workers_of_its_peak() {
    let pool = pool(|config| config.idle_time = Duration::ZERO);
    let objects = [(); 50].map(|()| Object::that_blocks("busy"));
    for object in &objects {
        assert!(object.call(&pool, Origin::default()));
    }
    until(|| objects.iter().all(|object| object.begun() == 1));
    assert_eq!(pool.state.lock().handles.len(), 50);
    for (object, left) in objects.iter().zip((0..50).rev()) {
        object.go.set();
        // Its thread has ended before the next one looks.
        until(|| {
            let state = pool.state.lock();
            let handles = state.handles.iter().filter_map(OwnThread::get);
            let alive = handles.filter(|handle| !handle.is_finished()).count();
            state.workers == left && alive == left
        });
    }
    let state = pool.state.lock();
    assert!(state.handles.len() <= FEW + 1, "{} handles", state.handles.len());
    assert!(state.handles.capacity() <= 4 * FEW, "room for {}", state.handles.capacity());
}

/// Of workers that leave together, the last one still sees the handles of the others. Those
/// that stay forget them.
#[test]
fn workers_that_stay_forget_those_that_left_together() {
    let pool = pool(|config| config.idle_time = Duration::MAX);
    let stays = Object::new("stays", || ());
    assert!(stays.call(&pool, Origin::default()));
    until(|| pool.state.lock().idle.len() == 1);
    let ended: Vec<_> = (0..50).map(|_| OwnThread::new(thread::spawn(|| ()))).collect();
    until(|| ended.iter().filter_map(OwnThread::get).all(JoinHandle::is_finished));
    pool.state.lock().handles.extend(ended);
    assert!(stays.call(&pool, Origin::default()));
    until(|| pool.state.lock().handles.len() == 1);
    assert!(pool.close(Deadline::NEVER));
}

/// An object with one method.
struct Object {
    name: &'static str,
    method: Box<dyn Fn() + Send + Sync>,
    begun: Arc<AtomicUsize>,
    refused: AtomicUsize,
    go: Arc<Event>,
    behind: Arc<Mutex<Option<Arc<dyn Calls>>>>,
}

struct WaitsBehind(Arc<dyn Calls>);

impl Awaited for WaitsBehind {
    fn behind(&self) -> Option<Arc<dyn Calls>> {
        Some(Arc::clone(&self.0))
    }

    fn awaited_peer(&self) -> Option<String> {
        None
    }
}

impl Object {
    fn new(name: &'static str, method: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Object {
            name,
            method: Box::new(method),
            begun: Arc::default(),
            refused: AtomicUsize::new(0),
            go: Arc::default(),
            behind: Arc::default(),
        })
    }

    /// Its method waits for something of which the pool knows nothing.
    fn that_blocks(name: &'static str) -> Arc<Self> {
        let (begun, go) = (Arc::<AtomicUsize>::default(), Arc::<Event>::default());
        let (count, gone) = (Arc::clone(&begun), Arc::clone(&go));
        let method = move || {
            count.fetch_add(1, Ordering::SeqCst);
            gone.park(Deadline::NEVER);
        };
        let object = Object::new(name, method);
        let mut object = Arc::into_inner(object).unwrap();
        (object.begun, object.go) = (begun, go);
        Arc::new(object)
    }

    /// Its method gives up its place and waits.
    fn that_waits(name: &'static str) -> Arc<Self> {
        let (begun, go) = (Arc::<AtomicUsize>::default(), Arc::<Event>::default());
        let behind = Arc::<Mutex<Option<Arc<dyn Calls>>>>::default();
        let (count, gone, object) = (Arc::clone(&begun), Arc::clone(&go), Arc::clone(&behind));
        let method = move || {
            let object = object.lock().clone();
            let awaited = object.map(|object| Arc::new(WaitsBehind(object)) as Arc<dyn Awaited>);
            let wait = || {
                // Counted when the place has been given up.
                count.fetch_add(1, Ordering::SeqCst);
                gone.park(Deadline::NEVER);
            };
            role::wait_for(|| awaited.as_ref().map(Arc::downgrade), wait).unwrap();
        };
        let object = Object::new(name, method);
        let mut object = Arc::into_inner(object).unwrap();
        (object.begun, object.go, object.behind) = (begun, go, behind);
        Arc::new(object)
    }

    /// Makes a call, and returns whether it has a place, or one in the queue.
    fn call(self: &Arc<Self>, pool: &Pool, origin: Origin) -> bool {
        pool.spawn(Job::calls(Arc::clone(self) as _, origin)).is_ok()
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Calls for Object {
    fn run(self: Arc<Self>, _: Origin) {
        (self.method)();
    }

    fn run_own(self: Arc<Self>, _: Origin, _: usize) -> bool {
        false
    }

    fn refuse(self: Arc<Self>, _: Origin, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn begun(&self) -> u64 {
        0
    }

    fn waiting(&self) -> usize {
        2
    }
}

#[test]
fn methods_that_block_leave_places_to_other_origins() {
    let pool = pool(|config| config.max_workers = 16);
    let (one, two, three) = (Origin::connection(), Origin::connection(), Origin::connection());
    let object = Object::that_blocks("blocks");
    let calls = |origin, number| (0..number).for_each(|_| assert!(object.call(&pool, origin)));
    // One origin has three quarters of the places at most.
    calls(one, 100);
    until(|| object.begun() == 12);
    // The next one has three times what is left.
    calls(two, 100);
    until(|| object.begun() == 15);
    calls(three, 1);
    until(|| object.begun() == 16);
    let queued: usize = pool.state.lock().shares.queues().iter().map(|queue| queue.jobs).sum();
    assert_eq!((pool.state.lock().workers, queued), (16, 88 + 97));
    object.go.set();
    assert!(pool.close(Deadline::NEVER));
    assert_eq!((object.begun(), object.refused()), (201, 0));
}

#[test]
fn methods_that_wait_leave_threads_to_other_origins() {
    let pool = pool(|config| {
        config.max_workers = 4;
        config.max_waiting = 20;
    });
    let (one, two) = (Origin::connection(), Origin::connection());
    let object = Object::that_waits("waits");
    // Each waits before the next one comes.
    while object.refused() == 0 {
        let begun = object.begun();
        assert!(object.call(&pool, one));
        until(|| object.begun() > begun || object.refused() > 0);
    }
    let begun = object.begun();
    assert!((15..20).contains(&begun), "{begun} workers of one origin wait");
    assert!(object.call(&pool, two));
    until(|| object.begun() == begun + 1);
    assert_eq!(object.refused(), 1);
    // When they have gone on, there is room again.
    object.go.set();
    until(|| pool.state.lock().shares.is_calm());
    assert!(object.call(&pool, one));
    until(|| object.begun() == begun + 2);
    assert_eq!(object.refused(), 1);
    assert!(pool.close(Deadline::NEVER));
}

/// What is queued while others run may turn out to be what they wait for.
#[test]
fn queued_calls_are_refused_when_all_workers_wait_and_there_may_be_no_more() {
    let pool = pool(|config| {
        config.max_workers = 1;
        config.max_waiting = 0;
    });
    let peer = Origin::connection();
    let inner = Object::that_blocks("inner");
    let (own, asked) = (Arc::clone(&pool), Arc::clone(&inner));
    let outer = Object::new("outer", move || {
        assert!(asked.call(&own, peer));
        assert_eq!(asked.refused(), 0, "this worker may end and run the call");
        role::wait(|| assert_eq!(asked.refused(), 1)).unwrap();
    });
    assert!(outer.call(&pool, peer));
    until(|| inner.refused() == 1);
    assert!(pool.close(Deadline::NEVER));
    assert_eq!((inner.begun(), inner.refused()), (0, 1));
}

#[test]
fn a_full_queue_has_room_for_another_origin() {
    let pool = pool(|config| {
        config.max_workers = 1;
        config.max_queued = 8;
    });
    let (one, two) = (Origin::connection(), Origin::connection());
    let object = Object::that_blocks("blocks");
    assert_eq!((0..100).filter(|_| object.call(&pool, one)).count(), 1 + 6);
    assert!(object.call(&pool, two));
    object.go.set();
    assert!(pool.close(Deadline::NEVER));
    assert_eq!(object.begun(), 8);
}

#[test]
fn origins_take_turns() {
    let pool = pool(|config| config.max_workers = 1);
    let (one, two) = (Origin::connection(), Origin::connection());
    let gate = Object::that_blocks("gate");
    assert!(gate.call(&pool, one));
    until(|| gate.begun() == 1);
    let order = Arc::<Mutex<Vec<_>>>::default();
    for (name, origin) in [("a", one), ("a", one), ("a", one), ("b", two), ("b", two)] {
        let order = Arc::clone(&order);
        assert!(Object::new(name, move || order.lock().push(name)).call(&pool, origin));
    }
    gate.go.set();
    assert!(pool.close(Deadline::NEVER));
    assert_eq!(*order.lock(), ["a", "b", "a", "b", "a"]);
}

/// A serial object's worker runs calls of several origins, one after the other.
#[test]
fn a_worker_counts_for_the_origin_whose_call_it_runs() {
    let pool = pool(|config| config.max_workers = 4);
    let (one, two) = (Origin::connection(), Origin::connection());
    let blocks = Object::that_blocks("blocks");
    let moves = Object::new("moves", move || role::work_for(two));
    let gate = Object::that_blocks("gate");
    let hold = Arc::clone(&gate);
    let moves_and_blocks = Object::new("both", move || {
        (moves.method)();
        (hold.method)();
    });
    assert!(moves_and_blocks.call(&pool, one));
    until(|| gate.begun() == 1);
    // None of the three is the worker that moved.
    (0..9).for_each(|_| assert!(blocks.call(&pool, two)));
    until(|| blocks.begun() == 2);
    assert!(blocks.call(&pool, one));
    until(|| blocks.begun() == 3);
    gate.go.set();
    blocks.go.set();
    assert!(pool.close(Deadline::NEVER));
    assert_eq!(blocks.begun(), 10);
}

#[test]
fn a_warning_names_the_objects_that_have_the_workers() {
    let pool = pool(|config| config.max_workers = 2);
    let introduction = Introduction::of(&PeerDescription::from_address("10.0.0.1:1"));
    let peer = introduction.origin();
    let (one, two) = (Object::that_blocks("Lock"), Object::that_blocks("Disk"));
    assert!(one.call(&pool, peer) && two.call(&pool, peer));
    until(|| (one.begun(), two.begun()) == (1, 1));
    let mut watch = Watch::default();
    assert!(watch.look(&pool).is_empty());
    assert!(watch.look(&pool).is_empty(), "nothing waits for a worker");
    assert!(one.call(&pool, peer));
    assert!(watch.look(&pool).is_empty(), "it has only just come");
    let warnings = watch.look(&pool);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    let names = "taken by Disk (1 run, 0 wait for an answer), Lock (1 run, 0 wait for an answer)";
    assert!(warning.contains(names), "{warning}");
    assert!(
        warning.starts_with("1 calls or closures of the connection to 10.0.0.1:1 "),
        "{warning}"
    );
    assert!(watch.look(&pool).is_empty(), "it is told once");
    one.go.set();
    two.go.set();
    assert!(pool.close(Deadline::NEVER));
}

#[test]
fn a_circle_of_objects_that_wait_for_each_other_is_told_once() {
    let pool = pool(|_| ());
    let (one, two) = (Object::that_waits("One"), Object::that_waits("Two"));
    *one.behind.lock() = Some(Arc::clone(&two) as _);
    *two.behind.lock() = Some(Arc::clone(&one) as _);
    for object in [&one, &two] {
        assert!(object.call(&pool, Origin::LOCAL));
        until(|| object.begun() == 1);
    }
    let mut watch = Watch::default();
    assert!(watch.look(&pool).is_empty());
    let warnings = watch.look(&pool);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(
        warning.contains("One waits behind Two waits behind One")
            || warning.contains("Two waits behind One waits behind Two"),
        "{warning}"
    );
    assert!(watch.look(&pool).is_empty());
    for object in [&one, &two] {
        object.go.set();
        *object.behind.lock() = None;
    }
    assert!(pool.close(Deadline::NEVER));
}

#[test]
fn an_object_that_waits_for_something_else_is_told_if_calls_wait_behind_it() {
    let pool = pool(|_| ());
    let object = Object::that_waits("Slow");
    assert!(object.call(&pool, Origin::LOCAL));
    until(|| object.begun() == 1);
    let mut watch = Watch::default();
    assert!(watch.look(&pool).is_empty());
    let told = "2 calls wait behind a method of Slow, which waits for an answer";
    assert_eq!(watch.look(&pool), [told]);
    object.go.set();
    assert!(pool.close(Deadline::NEVER));
}

/// The thread that looks ends when nothing waits any more, and comes again.
#[test]
fn the_thread_that_looks_is_there_while_something_waits() {
    let pool = pool(|config| config.patience = Duration::from_millis(1));
    for _ in 0..2 {
        let object = Object::that_waits("waits");
        assert!(object.call(&pool, Origin::LOCAL));
        until(|| object.begun() == 1);
        assert!(pool.state.lock().watched);
        object.go.set();
        until(|| !pool.state.lock().watched);
    }
    assert!(pool.close(Deadline::NEVER));
}
