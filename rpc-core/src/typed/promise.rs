//! Calls that are under way.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::content::Response;
use super::pipeline::{FromTypelessPipeline, Pipelined};
use crate::cap::pending::Pending;
use crate::cap::pipeline::Pipeline;
use crate::error::Result;
use crate::sync::Mutex;

/// A call that was sent and whose response may not have arrived.
///
/// Any thread may hold it. If its last copy, its pipelines and the clients made of them
/// are all dropped before the call has returned, the call is cancelled.
///
/// It is also a [`Future`], for programs that have an executor. None is needed.
#[must_use = "dropping a promise cancels the call; wait for it, or use on_resolve"]
pub struct Promise<R> {
    pending: Pending,
    waker: Option<Arc<WakerSlot>>,
    results: PhantomData<fn() -> R>,
}

impl<R> Promise<R> {
    pub(crate) fn new(pending: Pending) -> Self {
        Promise { pending, waker: None, results: PhantomData }
    }

    /// The call without its type.
    pub fn as_pending(&self) -> &Pending {
        &self.pending
    }

    /// Blocks until the call has returned.
    ///
    /// # Errors
    /// Whatever the call failed with.
    pub fn wait(&self) -> Result<Response<R>> {
        Ok(Response::of(self.pending.wait()?))
    }

    /// Blocks until the call has returned, but no longer than `timeout`. The call goes
    /// on when time is up; wait again, or drop the promise to cancel the call.
    ///
    /// # Errors
    /// Whatever the call failed with, or that time was up.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Response<R>> {
        Ok(Response::of(self.pending.wait_timeout(timeout)?))
    }

    /// Blocks as [`wait_timeout`](Self::wait_timeout) does, until a point in time.
    ///
    /// # Errors
    /// Whatever the call failed with, or that time was up.
    pub fn wait_deadline(&self, deadline: Instant) -> Result<Response<R>> {
        Ok(Response::of(self.pending.wait_deadline(deadline)?))
    }

    /// The response if the call has returned. Never blocks.
    pub fn try_response(&self) -> Option<Result<Response<R>>> {
        Some(self.pending.try_result()?.map(Response::of))
    }

    /// Runs `action` with the response on a worker, once the call has returned. The
    /// promise need not be kept: while an action waits for the call, dropping the promise
    /// does not cancel the call.
    pub fn on_resolve(&self, action: impl FnOnce(Result<Response<R>>) + Send + 'static) {
        self.pending.on_resolve(move |result| action(result.map(Response::of)));
    }
}

impl<R: Pipelined> Promise<R> {
    /// The capabilities that the response will hold. Calls on them are sent at once,
    /// and are delivered when the response exists.
    pub fn pipeline(&self) -> R::Pipeline {
        FromTypelessPipeline::new(Pipeline::new(self.pending.clone()))
    }
}

/// Copies share the call.
impl<R> Clone for Promise<R> {
    fn clone(&self) -> Self {
        Promise::new(self.pending.clone())
    }
}

impl<R> fmt::Debug for Promise<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Promise").field(&self.pending).finish()
    }
}

/// The task to wake: the one that polled last.
#[derive(Default)]
struct WakerSlot(Mutex<Option<Waker>>);

impl Wake for WakerSlot {
    fn wake(self: Arc<Self>) {
        let waker = self.0.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<R> Future for Promise<R> {
    type Output = Result<Response<R>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = Arc::clone(self.waker.get_or_insert_default());
        *slot.0.lock() = Some(context.waker().clone());
        let waker = Waker::from(slot);
        let outcome = Pin::new(&mut self.pending).poll(&mut Context::from_waker(&waker));
        outcome.map(|result| result.map(Response::of))
    }
}
