//! Where threads wait for room, on a connection and in a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cap::stream::Stream;
use crate::deadline::Deadline;
use crate::error::{Error, Timeout};
use crate::flow::FixedWindow;
use crate::sync::{Mutex, explore, thread};
use crate::work::origin::Origin;
use crate::work::room::{Asker, Room};

/// For a deadline that may come at any moment: Note [models].
const SOON: Duration = Duration::from_secs(1);

#[test]
fn whoever_waits_for_a_place_gets_one_when_one_is_free() {
    explore(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let inside = Arc::new(AtomicUsize::new(0));
        let users = [(); 3].map(|()| {
            let (room, inside) = (Arc::clone(&room), Arc::clone(&inside));
            thread::spawn(move || {
                for _ in 0..2 {
                    let permit = room.wait(Asker::Application, Deadline::NEVER).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    // More than the limit: no thread gets a place until it is sent.
                    room.queued(20);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                    room.sent(20);
                }
            })
        });
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(room.bytes(), 0);
        assert!(room.try_take().is_some());
    });
}

/// Threads come to wait one after the other, and places come free one after the other.
#[test]
fn places_are_given_in_the_order_in_which_threads_came() {
    explore(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let taken = room.try_take().unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let users: Vec<_> = (0..3)
            .map(|turn| {
                let (own, served) = (Arc::clone(&room), Arc::clone(&served));
                let user = thread::spawn(move || {
                    let permit = own.wait(Asker::Application, Deadline::NEVER).unwrap();
                    assert_eq!(served.fetch_add(1, Ordering::SeqCst), turn);
                    drop(permit);
                });
                while room.in_line() <= turn {
                    shuttle::thread::yield_now();
                }
                user
            })
            .collect();
        // Whoever comes now does not go past them.
        assert!(room.try_take().is_none());
        drop(taken);
        users.into_iter().for_each(|user| user.join().unwrap());
        assert!(room.try_take().is_some());
    });
}

#[test]
fn a_worker_has_one_place_beyond_the_limit() {
    explore(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        // Nobody gives this back.
        let taken = room.try_take().unwrap();
        let workers = [(); 2].map(|()| {
            let room = Arc::clone(&room);
            thread::spawn(move || {
                for _ in 0..2 {
                    drop(room.wait(Asker::Worker, Deadline::NEVER).unwrap());
                }
            })
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(room.try_take().is_none());
        drop(taken);
        assert!(room.try_take().is_some());
    });
}

/// One waits for ever and the others give up at some time: a place that comes free goes
/// to someone who still waits.
#[test]
fn whoever_gives_up_in_line_takes_no_place_along() {
    explore(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let taken = room.try_take().unwrap();
        let hasty = [(); 2].map(|()| {
            let room = Arc::clone(&room);
            thread::spawn(move || match room.wait(Asker::Application, Deadline::after(SOON)) {
                Ok(permit) => drop(permit),
                Err(error) => assert_eq!(error.timeout(), Some(Timeout::NeverSent)),
            })
        });
        let patient = {
            let room = Arc::clone(&room);
            thread::spawn(move || drop(room.wait(Asker::Application, Deadline::NEVER).unwrap()))
        };
        drop(taken);
        patient.join().unwrap();
        hasty.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(room.in_line(), 0);
        assert!(room.try_take().is_some());
    });
}

#[test]
fn everybody_who_waits_for_a_place_hears_of_the_end() {
    explore(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let taken = room.try_take().unwrap();
        let users = [(); 2].map(|()| {
            let room = Arc::clone(&room);
            thread::spawn(move || room.wait(Asker::Application, Deadline::NEVER).map(drop).is_err())
        });
        room.close(Error::disconnected("the end"));
        for user in users {
            assert!(user.join().unwrap());
        }
        drop(taken);
        assert!(room.wait(Asker::Application, Deadline::NEVER).is_err());
    });
}

#[test]
fn a_full_window_lets_its_senders_go_on_when_enough_is_answered() {
    explore(|| {
        let stream = Stream::new(Box::new(FixedWindow::new(100)));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let senders = [(); 2].map(|()| {
            let (stream, sent) = (Arc::clone(&stream), Arc::clone(&sent));
            thread::spawn(move || {
                for _ in 0..3 {
                    stream.wait_for_room(&None).unwrap();
                    sent.lock().push(stream.send(60).unwrap());
                }
            })
        });
        let peers = [(); 2].map(|()| {
            let sent = Arc::clone(&sent);
            thread::spawn(move || {
                let mut answered = 0;
                while answered < 3 {
                    let message = sent.lock().pop();
                    match message {
                        Some(message) => {
                            message.answered(None);
                            answered += 1;
                        }
                        None => shuttle::thread::yield_now(),
                    }
                }
            })
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        stream.wait_until_empty(&None, Deadline::NEVER).unwrap();
        peers.into_iter().for_each(|peer| peer.join().unwrap());
        assert!(stream.has_room());
    });
}

#[test]
fn a_failure_wakes_everybody_who_waits_for_a_stream() {
    explore(|| {
        let stream = Stream::new(Box::new(FixedWindow::new(100)));
        let first = stream.send(100).unwrap();
        let second = stream.send(100).unwrap();
        let one = {
            let stream = Arc::clone(&stream);
            thread::spawn(move || stream.wait_for_room(&None).is_err())
        };
        let other = {
            let stream = Arc::clone(&stream);
            thread::spawn(move || stream.wait_until_empty(&None, Deadline::NEVER).is_err())
        };
        first.answered(Some(&Error::failed("no")));
        assert!(one.join().unwrap() && other.join().unwrap());
        second.answered(None);
    });
}
