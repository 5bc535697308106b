//! `TestMoreStuff`.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use capnp_threads_core::typed::DeferredResults;
use capnp_threads_core::{Client, Error, FromClient, Result, Results, Vat};
use rpc_schema::test_capnp::{test_call_order, test_handle, test_interface, test_more_stuff};

use super::{Interface, call_foo, foo_request, require_x};

/// More than any implementation lets through in one message.
const ENORMOUS: u32 = 100_000_000;

/// Does what the schema says, but for what it leaves to its host.
#[derive(Debug)]
pub struct MoreStuff<H> {
    host: H,
    held: Mutex<Option<test_interface::Client>>,
}

/// What a [`MoreStuff`] or a [`Pipeline`](super::Pipeline) is part of.
pub trait Host: Clone + Send + Sync + 'static {
    /// How methods call other objects.
    const CALLING: Calling;

    /// Notes a call of `getCallSequence`, and returns the answer to it.
    fn arrive(&self, expected: u32) -> u32;

    /// Makes a handle that is given out.
    fn handle(&self) -> test_handle::Client;

    /// Makes what is given out in a box.
    fn boxed(&self) -> test_interface::Client {
        self.vat().export(Interface)
    }

    /// Where other objects run that are given out.
    fn vat(&self) -> &Vat {
        Vat::global()
    }

    /// A call that stays open was cancelled.
    fn cancelled(&self) {}
}

/// What a method does until the object that it calls has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calling {
    /// It returns, and answers later, so that other calls are served meanwhile.
    Defers,
    /// It waits, whatever becomes of its caller.
    Waits,
    /// It waits until it is cancelled.
    WaitsWhileWanted,
}

impl Calling {
    /// Calls `object.foo`, and answers with what `fill_in` adds when that went well.
    fn answer_after_foo<R: 'static>(
        self,
        object: &test_interface::Client,
        mut results: Results<R>,
        fill_in: fn(&mut Results<R>),
    ) -> Result<()> {
        self.before_waiting(&results);
        if self == Calling::Defers {
            answer_later(object, results.defer(), fill_in);
        } else {
            call_foo(object)?;
            fill_in(&mut results);
        }
        Ok(())
    }

    /// As [`answer_after_foo`](Self::answer_after_foo), once it is known what `object`
    /// is.
    fn answer_when_resolved<R: 'static>(
        self,
        object: &Client,
        results: Results<R>,
        fill_in: fn(&mut Results<R>),
    ) -> Result<()> {
        self.before_waiting(&results);
        if self != Calling::Defers {
            let object = test_interface::Client::from_client(object.resolve()?);
            return self.answer_after_foo(&object, results, fill_in);
        }
        let results = results.defer();
        object.on_resolved(move |resolved| match resolved {
            Ok(object) => {
                answer_later(&test_interface::Client::from_client(object), results, fill_in);
            }
            Err(error) => results.fail(error),
        });
        Ok(())
    }

    fn before_waiting<R>(self, results: &Results<R>) {
        if self == Calling::WaitsWhileWanted {
            results.allow_cancellation();
        }
    }
}

fn answer_later<R: 'static>(
    object: &test_interface::Client,
    results: DeferredResults<R>,
    fill_in: fn(&mut Results<R>),
) {
    foo_request(object).send().on_resolve(move |response| {
        results.answer(|mut results| {
            require_x(&response?, "foo")?;
            fill_in(&mut results);
            Ok(())
        });
    });
}

impl<H: Host> MoreStuff<H> {
    /// One that holds nothing.
    pub fn with_host(host: H) -> Self {
        MoreStuff { host, held: Mutex::default() }
    }

    fn held(&self) -> Result<test_interface::Client> {
        self.held.lock().unwrap().clone().ok_or_else(|| Error::failed("nothing is held"))
    }
}

/// Keeps a call open, and `kept` alive, until it is cancelled; then calls
/// `cancelled`.
pub fn leave_open<R: 'static>(
    results: Results<R>,
    kept: impl Send + 'static,
    cancelled: impl FnOnce() + Send + 'static,
) {
    let results = results.defer();
    let open = Arc::new(Mutex::new(None));
    let closing = Arc::clone(&open);
    results.on_cancel(move || {
        let closed = closing.lock().unwrap().take();
        drop(closed);
        cancelled();
    });
    // If it was cancelled just now, the closure is gone, and the last reference to
    // all this is here.
    *open.lock().unwrap() = Some((results, kept));
}

/// Writes to the file descriptor of a capability. Returns whether it has one.
fn write_to(object: &Client, text: &str) -> Result<bool> {
    let Some(fd) = object.fd() else { return Ok(false) };
    File::from(fd.try_clone()?).write_all(text.as_bytes())?;
    Ok(true)
}

impl<H: Host> test_call_order::Server for MoreStuff<H> {
    fn get_call_sequence(
        &self,
        params: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.host.arrive(params.get()?.get_expected()));
        Ok(())
    }
}

impl<H: Host> test_more_stuff::Server for MoreStuff<H> {
    fn call_foo(
        &self,
        mut params: test_more_stuff::CallFooParams,
        results: test_more_stuff::CallFooResults,
    ) -> Result<()> {
        let object = params.get()?.get_cap()?;
        params.release_capabilities();
        H::CALLING.answer_after_foo(&object, results, |results| results.get().set_s("bar"))
    }

    fn call_foo_when_resolved(
        &self,
        mut params: test_more_stuff::CallFooWhenResolvedParams,
        results: test_more_stuff::CallFooWhenResolvedResults,
    ) -> Result<()> {
        let object = params.get()?.get_cap()?.into_client();
        params.release_capabilities();
        H::CALLING.answer_when_resolved(&object, results, |results| results.get().set_s("bar"))
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
        results.set_pipeline()?;
        let host = self.host.clone();
        leave_open(results, object, move || host.cancelled());
        Ok(())
    }

    fn hold(
        &self,
        params: test_more_stuff::HoldParams,
        _: test_more_stuff::HoldResults,
    ) -> Result<()> {
        let params = params.get()?;
        let object = params.has_cap().then(|| params.get_cap()).transpose()?;
        let before = std::mem::replace(&mut *self.held.lock().unwrap(), object);
        drop(before);
        Ok(())
    }

    fn call_held(
        &self,
        _: test_more_stuff::CallHeldParams,
        results: test_more_stuff::CallHeldResults,
    ) -> Result<()> {
        let set = |results: &mut test_more_stuff::CallHeldResults| results.get().set_s("bar");
        H::CALLING.answer_after_foo(&self.held()?, results, set)
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
        let host = self.host.clone();
        leave_open(results, object, move || host.cancelled());
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
        results.get().set_handle(self.host.handle());
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
            return H::CALLING.answer_after_foo(&params.get_b()?, results, |_| {});
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
        let vat = self.host.vat().clone();
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
