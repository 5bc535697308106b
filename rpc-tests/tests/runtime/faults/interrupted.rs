//! Signals at every thread of the process, which end system calls before their time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use capnp_threads_core::{Concurrency, FromClient, Vat};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::test_interface;
use rpc_tests::support::objects::{Echo, answer_foo, call_foo, foo};
use rpc_tests::support::{Event, Pair, Watchdog, Wire, alone, until};

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Lets system calls fail with EINTR, instead of going on, when the signal has been handled.
fn interrupt_system_calls() {
    // SAFETY: the action is complete, and its handler only adds to a number.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Sends the signal to every thread but this one, again and again.
fn storm(over: &AtomicBool) {
    // SAFETY: no memory is involved, here and below.
    let own = unsafe { libc::gettid() };
    let process = std::process::id();
    while !over.load(Ordering::Relaxed) {
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let name = task.unwrap().file_name();
            let thread: libc::pid_t = name.to_str().unwrap().parse().unwrap();
            if thread != own {
                // A thread that has just ended cannot be found, which does no harm.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            }
        }
        thread::yield_now();
    }
}

#[test]
fn every_wait_goes_on_after_a_signal() {
    if !alone("faults::interrupted::every_wait_goes_on_after_a_signal") {
        return;
    }
    let _watchdog = Watchdog::start();
    interrupt_system_calls();
    let over = Arc::new(AtomicBool::new(false));
    let storming = thread::spawn({
        let over = Arc::clone(&over);
        move || storm(&over)
    });
    for wire in Wire::ALL {
        let (tell, go_on) = (Event::new(), Event::new());
        let (begun, wait) = (tell.clone(), go_on.clone());
        let server = move |vat: &Vat| {
            let method = move |params, results| {
                tell.set();
                wait.wait();
                answer_foo(params, results)
            };
            foo(vat, method).into_client()
        };
        let pair = Pair::configured(server, wire, |config| config, |config| config);
        let client: test_interface::Client = pair.bootstrap();
        let waiting = thread::spawn({
            let client = client.clone();
            move || call_foo(&client).unwrap()
        });
        begun.wait();
        // Everybody waits now, for whatever it is.
        let before = HANDLED.load(Ordering::Relaxed);
        until("interruptions", || HANDLED.load(Ordering::Relaxed) > before + 500);
        go_on.set();
        waiting.join().unwrap();
        for _ in 0..50 {
            call_foo(&client).unwrap();
        }
        drop(client);
        pair.finish();
        write_much(wire);
    }
    over.store(true, Ordering::Relaxed);
    storming.join().unwrap();
}

/// Writes more than a socket takes at once, in both directions.
fn write_much(wire: Wire) {
    let server = |vat: &Vat| Echo::client(vat, Concurrency::Concurrent).into_client();
    let pair = Pair::configured(server, wire, |config| config, |config| config);
    let client: echo::Client = pair.bootstrap();
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let mut request = client.echo_request();
            request.get().set_data(&data);
            request.send()
        })
        .collect();
    for call in &calls {
        assert_eq!(call.wait().unwrap().get().unwrap().get_data().unwrap(), data.as_slice());
    }
    drop((client, calls));
    pair.finish();
}
