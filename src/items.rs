//! Iterators that reach through a capability: items that are *pulled* by who wants them, or
//! *pushed* by who has them.
//!
//! The interfaces are in `items.capnp`. They are generic: `Items(Text)`, or `Items` of any
//! struct, list or interface. What an item looks like on either side is up to two closures:
//! one writes an item of the program into an `Item`, and the other reads it.
//!
//! | to | use | who sets the pace |
//! |---|---|---|
//! | let others pull from an iterator | [`serve`] | those who pull |
//! | pull, as an iterator | [`pull`] | this side |
//! | push all that an iterator has | [`send_all`] | the other side, by its [window](crate::flow) |
//! | be pushed, and read that as an iterator | [`receive`] | this side |
//! | be pushed, and do something with each item | [`sink`] | this side |
//!
//! A schema that names these interfaces imports `/capnp-threads/items.capnp`, which build
//! scripts find by themselves.
//!
//! ```
//! use capnp_threads::capnp::text;
//! use capnp_threads::items::{self, Items};
//! use capnp_threads::{Result, Vat};
//!
//! # fn main() -> Result<()> {
//! // The one side has an iterator. It yields what is asked for, and nothing beforehand.
//! let squares = (1_u64..).map(|n| Ok(n * n));
//! let offered: Items<text::Owned> =
//!     items::serve(Vat::global(), squares, |n, mut to| Ok(to.set_value(&*n.to_string())?));
//!
//! // The other side has one as well. Dropping it ends the first one.
//! let pulled = items::pull(offered, |item| Ok(item.get_value()?.to_str()?.to_owned()));
//! let first: Vec<String> = pulled.take(4).collect::<Result<_>>()?;
//! assert_eq!(first, ["1", "4", "9", "16"]);
//! # Ok(())
//! # }
//! ```
//!
//! And the other way:
//!
//! ```
//! use capnp_threads::capnp::text;
//! use capnp_threads::items;
//! use capnp_threads::{Result, Vat};
//!
//! # fn main() -> Result<()> {
//! let (sink, received) = items::receive::<text::Owned, _, _>(Vat::global(), |item| {
//!     Ok(item.get_value()?.to_str()?.len())
//! });
//! let sending = std::thread::spawn(move || {
//!     let words = ["one", "three"].into_iter().map(Ok);
//!     items::send_all(words, sink, |word, mut to| Ok(to.set_value(word)?))
//! });
//! assert_eq!(received.collect::<Result<Vec<_>>>()?, [3, 5]);
//! assert_eq!(sending.join().unwrap()?, 2);
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use capnp_threads_core::capnp::traits::{HasTypeId, Imbue, Owned};
use capnp_threads_core::hook;
use capnp_threads_core::untyped::Payload;

use crate::inlet::{Kind, Next, Outlet, Part, inlet};
use crate::items_capnp::{item_sink, items};
use crate::{Error, FromClient, Promise, Result, Vat};

pub use crate::items_capnp::item;
pub use crate::items_capnp::item_sink::Client as ItemSink;
pub use crate::items_capnp::items::Client as Items;

/// The most items that one call returns, whatever it asks for.
const MOST: u32 = 4096;

/// How many calls a [`Pulled`] has under way unless it is told otherwise.
const AHEAD: usize = 16;

/// Lets others pull what an iterator yields. `write` puts one item into what is returned.
///
/// Items are made when they are asked for, one call after the other, and the iterator may
/// block. It is dropped at its end, after its first error, which is passed on, or when
/// nobody holds the capability any more.
pub fn serve<T, I, S, W>(vat: &Vat, items: S, write: W) -> Items<T>
where
    T: Owned + 'static,
    I: 'static,
    S: IntoIterator<Item = Result<I>>,
    S::IntoIter: Send + 'static,
    W: FnMut(I, item::Builder<'_, T>) -> Result<()> + Send + 'static,
{
    let source = Source { items: Some(items.into_iter()), write, failure: None };
    vat.export(Served { source: Mutex::new(Some(source)), items: PhantomData })
}

struct Served<T, S, W> {
    /// Taken out while a call uses it: the application's code runs without the lock. It
    /// does not come back after a panic.
    source: Mutex<Option<Source<S, W>>>,
    items: PhantomData<fn() -> T>,
}

struct Source<S, W> {
    /// `None` after the end.
    items: Option<S>,
    write: W,
    /// What comes after the items that the last call returned.
    failure: Option<Error>,
}

impl<T, I, S, W> items::Server<T> for Served<T, S, W>
where
    T: Owned + 'static,
    I: 'static,
    S: Iterator<Item = Result<I>> + Send + 'static,
    W: FnMut(I, item::Builder<'_, T>) -> Result<()> + Send + 'static,
{
    fn next(&self, params: items::NextParams<T>, mut results: items::NextResults<T>) -> Result<()> {
        params.allow_cancellation();
        let most = params.get()?.get_most().clamp(1, MOST);
        let lock = || self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lock().take();
        let mut source =
            taken.ok_or_else(|| Error::failed("the iterator behind these items has panicked"))?;
        let outcome = source.next(most, &mut results);
        *lock() = Some(source);
        outcome
    }
}

impl<I, S: Iterator<Item = Result<I>>, W> Source<S, W> {
    fn next<T>(&mut self, most: u32, results: &mut items::NextResults<T>) -> Result<()>
    where
        T: Owned + 'static,
        W: FnMut(I, item::Builder<'_, T>) -> Result<()>,
    {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut made = Vec::new();
        while made.len() < most as usize
            && let Some(items) = &mut self.items
        {
            match items.next() {
                Some(Ok(item)) => made.push(item),
                Some(Err(error)) => {
                    self.items = None;
                    if made.is_empty() {
                        return Err(error);
                    }
                    self.failure = Some(error);
                }
                None => self.items = None,
            }
        }
        let mut results = results.get();
        results.set_end(self.items.is_none() && self.failure.is_none());
        // There are at most `most`.
        let mut list = results.init_items(u32::try_from(made.len()).unwrap_or(MOST));
        for (at, item) in (0..).zip(made) {
            (self.write)(item, list.reborrow().get(at))?;
        }
        Ok(())
    }
}

/// Pulls items, and yields what `read` makes of them. Nothing is asked for before the first
/// one is wanted.
///
/// The iterator ends after the last item, or after an error of the other side or of the
/// connection.
pub fn pull<T, I, R>(from: Items<T>, read: R) -> Pulled<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
    Pulled {
        from: Some(from),
        read,
        batch: 1,
        ahead: AHEAD,
        calls: VecDeque::new(),
        arrived: VecDeque::new(),
    }
}

/// Items that are pulled: see [`pull`]. Dropping it gives up the rest.
///
/// ```
/// use capnp_threads::capnp::data;
/// use capnp_threads::items::{self, Items};
/// use capnp_threads::{Result, Vat};
///
/// # fn main() -> Result<()> {
/// let offered: Items<data::Owned> =
///     items::serve(Vat::global(), (0_u8..50).map(Ok), |n, mut to| Ok(to.set_value(&[n][..])?));
/// // Items that are small and made fast, of which many are wanted: ten with each call.
/// let pulled = items::pull(offered, |item| Ok(item.get_value()?[0])).batch(10).ahead(2);
/// assert!(pulled.map(Result::unwrap).eq(0..50));
/// # Ok(())
/// # }
/// ```
#[must_use = "iterators do nothing until they are asked"]
pub struct Pulled<T, I, R>
where
    T: Owned + 'static,
{
    /// `None` after the end.
    from: Option<Items<T>>,
    read: R,
    batch: u32,
    ahead: usize,
    calls: VecDeque<Promise<items::next_results::Owned<T>>>,
    arrived: VecDeque<Result<I>>,
}

impl<T: Owned + 'static, I, R> Pulled<T, I, R> {
    /// Sets how many items are asked for with one call, which is answered when all of them
    /// are there. Default: 1, which is right for items that are large or rare.
    pub fn batch(mut self, items: u32) -> Self {
        self.batch = items.max(1);
        self
    }

    /// Sets how many calls are under way at most, so that the other side makes the next
    /// items while this one works on those before. It bounds how far the other side gets
    /// ahead: by so many batches. Default: 16. With 1, nothing is made before it is wanted.
    pub fn ahead(mut self, calls: usize) -> Self {
        self.ahead = calls.max(1);
        self
    }

    fn end(&mut self) {
        self.from = None;
        self.calls.clear();
    }
}

impl<T, I, R> Iterator for Pulled<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
    type Item = Result<I>;

    fn next(&mut self) -> Option<Result<I>> {
        loop {
            if let Some(item) = self.arrived.pop_front() {
                return Some(item);
            }
            let from = self.from.as_ref()?;
            while self.calls.len() < self.ahead {
                let mut request = from.next_request();
                request.get().set_most(self.batch);
                self.calls.push_back(request.send());
            }
            let call = self.calls.pop_front()?;
            if let Err(error) = self.take(&call) {
                self.end();
                return Some(Err(error));
            }
        }
    }
}

impl<T, I, R> Pulled<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
    fn take(&mut self, call: &Promise<items::next_results::Owned<T>>) -> Result<()> {
        let response = call.wait()?;
        let results = response.get()?;
        for item in results.get_items()? {
            self.arrived.push_back((self.read)(item));
        }
        if results.get_end() {
            self.end();
        }
        Ok(())
    }
}

impl<T, I, R> FusedIterator for Pulled<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
}

impl<T: Owned + 'static, I, R> fmt::Debug for Pulled<T, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulled")
            .field("batch", &self.batch)
            .field("ahead", &self.ahead)
            .field("under_way", &self.calls.len())
            .finish_non_exhaustive()
    }
}

// ---- Pushed

/// Pushes all that an iterator yields, and says that it was all. `write` puts one item into
/// what is sent. Returns the number of items, once the other side has taken them.
///
/// Waits while the sink's [window](crate::flow) is full: so a slow receiver holds the
/// iterator up.
///
/// # Errors
/// The iterator yields an error, and the stream is cut off; or the sink has failed.
pub fn send_all<T, I>(
    items: impl IntoIterator<Item = Result<I>>,
    to: ItemSink<T>,
    mut write: impl FnMut(I, item::Builder<'_, T>) -> Result<()>,
) -> Result<u64>
where
    T: Owned + 'static,
{
    let mut sent = 0;
    for item in items {
        let mut request = to.push_request();
        write(item?, request.get().init_item())?;
        request.send()?;
        sent += 1;
    }
    to.end_request().call()?;
    Ok(sent)
}

/// A sink of this vat that hands each item to `take`, one after the other. An error of it
/// ends the stream, and is what the sender gets. It is dropped at the end of the stream.
pub fn sink<T: Owned + 'static>(
    vat: &Vat,
    take: impl FnMut(item::Reader<'_, T>) -> Result<()> + Send + 'static,
) -> ItemSink<T> {
    vat.export(Sink { take: Mutex::new(Some(take)), items: PhantomData })
}

struct Sink<T, F> {
    /// Taken out while a call uses it: the application's code runs without the lock.
    take: Mutex<Option<F>>,
    items: PhantomData<fn() -> T>,
}

impl<T, F> Sink<T, F> {
    fn taken(&self) -> Result<F> {
        let taken = self.take.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| Error::failed("the stream was ended before"))
    }
}

impl<T, F> item_sink::Server<T> for Sink<T, F>
where
    T: Owned + 'static,
    F: FnMut(item::Reader<'_, T>) -> Result<()> + Send + 'static,
{
    fn push(&self, params: item_sink::PushParams<T>) -> Result<()> {
        let mut take = self.taken()?;
        take(params.get()?.get_item()?)?;
        *self.take.lock().unwrap_or_else(PoisonError::into_inner) = Some(take);
        Ok(())
    }

    fn end(&self, _: item_sink::EndParams<T>, _: item_sink::EndResults<T>) -> Result<()> {
        self.taken().map(drop)
    }
}

/// A sink of this vat, and an iterator over what `read` makes of the items that are pushed.
/// An item counts as taken when the iterator has yielded it: so a slow reader holds the
/// sender up.
pub fn receive<T, I, R>(vat: &Vat, read: R) -> (ItemSink<T>, Received<T, I, R>)
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
    let kind = Kind { interface: ItemSink::<T>::TYPE_ID, name: "sink of items", takes: "items" };
    let (client, outlet) = inlet(vat, kind);
    (ItemSink::from_client(client), Received { outlet: Some(outlet), read, items: PhantomData })
}

/// Items that are pushed: see [`receive`]. Dropping it before its end makes the sender
/// fail. A stream that was cut off ends with an error whose kind is
/// [`Disconnected`](crate::ErrorKind::Disconnected).
#[must_use = "whoever sends waits until this is asked"]
pub struct Received<T, I, R> {
    /// `None` after the end.
    outlet: Option<Outlet>,
    read: R,
    items: PhantomData<fn() -> (T, I)>,
}

impl<T, I, R> Iterator for Received<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
    type Item = Result<I>;

    fn next(&mut self) -> Option<Result<I>> {
        let failure = match self.outlet.as_mut()?.next() {
            Ok(Next::Part(part)) => match self.item(&part) {
                Ok(item) => {
                    part.answer(Ok(()));
                    return Some(Ok(item));
                }
                Err(error) => {
                    part.answer(Err(error.clone()));
                    Some(error)
                }
            },
            Ok(Next::End) => None,
            Ok(Next::CutOff) => {
                Some(Error::disconnected("the items were cut off: whoever pushed them is gone"))
            }
            Err(error) => Some(error),
        };
        self.outlet = None;
        failure.map(Err)
    }
}

impl<T, I, R> Received<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
    fn item(&mut self, part: &Part) -> Result<I> {
        let reader = part.params().open();
        let mut content = Payload::content(&reader)?;
        // Items may hold capabilities.
        let table = hook::table_of(part.params().caps());
        content.imbue(&table);
        (self.read)(content.get_as::<item_sink::push_params::Reader<'_, T>>()?.get_item()?)
    }
}

impl<T, I, R> FusedIterator for Received<T, I, R>
where
    T: Owned + 'static,
    R: FnMut(item::Reader<'_, T>) -> Result<I>,
{
}

impl<T, I, R> fmt::Debug for Received<T, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.outlet.as_ref().map_or(0, Outlet::waiting);
        f.debug_struct("Received").field("waiting", &waiting).finish_non_exhaustive()
    }
}
