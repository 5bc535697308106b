//! `TestMoreStuff`. Its methods never wait: what takes time is answered later,
//! so that calls which come in the meantime are served.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capnp_threads_core::{Client, DeferredResults, Error, FromClient, Result, Results};
use parking_lot::Mutex;
use rpc_schema::test_capnp::{test_call_order, test_handle, test_interface, test_more_stuff};

use super::objects::{Handle, Interface};
use super::state::{ConnectionState, counted};
use crate::conformance::foo::{require_x, send_foo};

/// More than any implementation lets through in one message.
const ENORMOUS: u32 = 100_000_000;

pub(super) struct MoreStuff {
    state: Arc<ConnectionState>,
    sequence: Sequence,
    held: Mutex<Option<test_interface::Client>>,
}

/// Whose numbers `getCallSequence` gives out.
pub(super) enum Sequence {
    Own(AtomicU32),
    /// The connection's, which can be reset.
    OfConnection,
}

impl MoreStuff {
    pub(super) fn new(state: &Arc<ConnectionState>, sequence: Sequence) -> Self {
        MoreStuff { state: Arc::clone(state), sequence, held: Mutex::default() }
    }

    fn held(&self) -> Result<test_interface::Client> {
        self.held.lock().clone().ok_or_else(|| Error::failed("nothing is held"))
    }
}

/// Calls `object.foo` and answers with what `answer` fills in when that went
/// well.
fn after_foo<R: 'static>(
    object: &test_interface::Client,
    results: DeferredResults<R>,
    fill_in: fn(&mut Results<R>),
) {
    send_foo(object).on_resolve(move |response| {
        results.answer(|mut results| {
            require_x(&response?, "foo")?;
            fill_in(&mut results);
            Ok(())
        });
    });
}

/// Keeps the call open, and `kept` alive, until it is cancelled. Then counts.
pub(super) fn until_cancelled<R: 'static>(
    state: &Arc<ConnectionState>,
    results: Results<R>,
    kept: impl Send + 'static,
) {
    let results = results.defer();
    let open = Arc::new(Mutex::new(None));
    let state = Arc::clone(state);
    {
        let open = Arc::clone(&open);
        results.on_cancel(move || {
            state.cancelled();
            let closed = open.lock().take();
            drop(closed);
        });
    }
    // If the call was cancelled just now, the last reference is this one.
    *open.lock() = Some((results, kept));
}

/// Writes to the file descriptor of a capability. Returns whether it has one.
fn write_to(object: &Client, text: &str) -> Result<bool> {
    let Some(fd) = object.fd() else { return Ok(false) };
    File::from(fd.try_clone()?).write_all(text.as_bytes())?;
    Ok(true)
}

impl test_call_order::Server for MoreStuff {
    fn get_call_sequence(
        &self,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(match &self.sequence {
            Sequence::Own(next) => next.fetch_add(1, Ordering::SeqCst),
            Sequence::OfConnection => self.state.next_in_sequence(),
        });
        Ok(())
    }
}

impl test_more_stuff::Server for MoreStuff {
    fn call_foo(
        &self,
        mut params: test_more_stuff::CallFooParams,
        results: test_more_stuff::CallFooResults,
    ) -> Result<()> {
        let object = params.get()?.get_cap()?;
        params.release_capabilities();
        after_foo(&object, results.defer(), |results| results.get().set_s("bar"));
        Ok(())
    }

    fn call_foo_when_resolved(
        &self,
        mut params: test_more_stuff::CallFooWhenResolvedParams,
        results: test_more_stuff::CallFooWhenResolvedResults,
    ) -> Result<()> {
        let object = params.get()?.get_cap()?;
        params.release_capabilities();
        let results = results.defer();
        object.as_client().on_resolved(move |resolved| match resolved {
            Ok(object) => {
                let object = test_interface::Client::from_client(object);
                after_foo(&object, results, |results| results.get().set_s("bar"));
            }
            Err(error) => results.fail(error),
        });
        Ok(())
    }

    fn never_return(
        &self,
        params: test_more_stuff::NeverReturnParams,
        mut results: test_more_stuff::NeverReturnResults,
    ) -> Result<()> {
        let params = params.get()?;
        let object = params.has_cap().then(|| params.get_cap()).transpose()?;
        if let Some(object) = &object {
            results.get().set_cap_copy(object.clone());
        }
        until_cancelled(&self.state, results, object);
        Ok(())
    }

    fn hold(
        &self,
        params: test_more_stuff::HoldParams,
        _: test_more_stuff::HoldResults,
    ) -> Result<()> {
        let params = params.get()?;
        let object = params.has_cap().then(|| params.get_cap()).transpose()?;
        let before = std::mem::replace(&mut *self.held.lock(), object);
        drop(before);
        Ok(())
    }

    fn call_held(
        &self,
        _: test_more_stuff::CallHeldParams,
        results: test_more_stuff::CallHeldResults,
    ) -> Result<()> {
        after_foo(&self.held()?, results.defer(), |results| results.get().set_s("bar"));
        Ok(())
    }

    fn get_held(
        &self,
        _: test_more_stuff::GetHeldParams,
        mut results: test_more_stuff::GetHeldResults,
    ) -> Result<()> {
        results.get().set_cap(self.held()?);
        Ok(())
    }

    fn echo(
        &self,
        params: test_more_stuff::EchoParams,
        mut results: test_more_stuff::EchoResults,
    ) -> Result<()> {
        results.get().set_cap(params.get()?.get_cap()?);
        Ok(())
    }

    fn expect_cancel(
        &self,
        params: test_more_stuff::ExpectCancelParams,
        results: test_more_stuff::ExpectCancelResults,
    ) -> Result<()> {
        let params = params.get()?;
        let object = params.has_cap().then(|| params.get_cap()).transpose()?;
        until_cancelled(&self.state, results, object);
        Ok(())
    }

    fn method_with_defaults(
        &self,
        params: test_more_stuff::MethodWithDefaultsParams,
        mut results: test_more_stuff::MethodWithDefaultsResults,
    ) -> Result<()> {
        let params = params.get()?;
        let (a, c) = (params.get_a()?.to_str()?, params.get_c()?.to_str()?);
        results.get().set_d(format!("{a} {} {c}", params.get_b()));
        Ok(())
    }

    fn get_handle(
        &self,
        _: test_more_stuff::GetHandleParams,
        mut results: test_more_stuff::GetHandleResults,
    ) -> Result<()> {
        let handle: test_handle::Client = counted(&self.state, Handle::new(&self.state));
        results.get().set_handle(handle);
        Ok(())
    }

    fn get_null(
        &self,
        _: test_more_stuff::GetNullParams,
        _: test_more_stuff::GetNullResults,
    ) -> Result<()> {
        Ok(())
    }

    fn get_enormous_string(
        &self,
        _: test_more_stuff::GetEnormousStringParams,
        mut results: test_more_stuff::GetEnormousStringResults,
    ) -> Result<()> {
        results.get().init_str(ENORMOUS);
        Ok(())
    }

    fn method_with_null_default(
        &self,
        params: test_more_stuff::MethodWithNullDefaultParams,
        results: test_more_stuff::MethodWithNullDefaultResults,
    ) -> Result<()> {
        let params = params.get()?;
        if params.has_b() {
            after_foo(&params.get_b()?, results.defer(), |_| {});
        }
        Ok(())
    }

    fn write_to_fd(
        &self,
        params: test_more_stuff::WriteToFdParams,
        results: test_more_stuff::WriteToFdResults,
    ) -> Result<()> {
        let params = params.get()?;
        let (first, second) = (params.get_fd_cap1()?, params.get_fd_cap2()?.into_client());
        let results = results.defer();
        let vat = self.state.vat.clone();
        first.as_client().on_resolved(move |first| {
            second.on_resolved(move |second| {
                results.answer(|mut results| {
                    if !write_to(&first?, "foo")? {
                        return Err(Error::failed("no file descriptor came with fdCap1"));
                    }
                    let present = write_to(&second?, "bar")?;
                    let (reader, mut writer) = io::pipe()?;
                    writer.write_all(b"baz")?;
                    let mut results = results.get();
                    results.set_second_fd_present(present);
                    results.set_fd_cap3(vat.export_with_fd(Interface, reader));
                    Ok(())
                });
            });
        });
        Ok(())
    }

    fn throw_exception(
        &self,
        _: test_more_stuff::ThrowExceptionParams,
        _: test_more_stuff::ThrowExceptionResults,
    ) -> Result<()> {
        Err(Error::failed("test exception"))
    }

    fn throw_remote_exception(
        &self,
        _: test_more_stuff::ThrowRemoteExceptionParams,
        _: test_more_stuff::ThrowRemoteExceptionResults,
    ) -> Result<()> {
        Err(Error::failed("remote exception: test exception"))
    }
}
