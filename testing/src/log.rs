//! A log that tests read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_core::span::Current;

/// A subscriber: what it does with the text of each event.
#[derive(Debug)]
pub struct Events<F> {
    most: Level,
    act: F,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl<F: Fn(String)> Events<F> {
    /// `act` is given the level, the fields and the text of each event up to this level.
    pub fn new(most: Level, act: F) -> Self {
        Events { most, act }
    }
}

impl<F: Fn(String) + 'static> Subscriber for Events<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(format!("{} ", event.metadata().level()));
        event.record(&mut fields);
        (self.act)(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// What a [`Spans`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Told {
    /// A span was made.
    Opened {
        /// Its number.
        span: u64,
        /// The number of the span around it.
        parent: Option<u64>,
        /// Its name and its fields.
        text: String,
    },
    /// More fields of a span became known.
    Recorded(u64, String),
    /// Something was told, perhaps in a span: level, fields and text.
    Event(Option<u64>, String),
    /// A span has ended.
    Closed(u64),
}

/// A subscriber that knows of spans.
#[derive(Debug)]
pub struct Spans<F> {
    most: Level,
    act: F,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The number of the last span.
    last: u64,
    /// The spans that are not over, each with how many refer to it.
    live: HashMap<u64, (usize, &'static Metadata<'static>)>,
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn current() -> Option<u64> {
    ENTERED.with(|entered| entered.borrow().last().copied())
}

impl<F: Fn(Told)> Spans<F> {
    /// `act` is told of events and spans up to this level.
    pub fn new(most: Level, act: F) -> Self {
        Spans { most, act, known: Mutex::default() }
    }
}

impl<F: Fn(Told) + 'static> Subscriber for Spans<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most.into())
    }

    fn new_span(&self, made: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields(format!("{} ", made.metadata().name()));
        made.record(&mut fields);
        let mut known = self.known.lock().unwrap();
        known.last += 1;
        let span = known.last;
        known.live.insert(span, (1, made.metadata()));
        drop(known);
        let parent = match made.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if made.is_contextual() => current(),
            None => None,
        };
        (self.act)(Told::Opened { span, parent, text: fields.0 });
        span::Id::from_u64(span)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        (self.act)(Told::Recorded(span.into_u64(), fields.0));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(format!("{} ", event.metadata().level()));
        event.record(&mut fields);
        let span = event.parent().map(span::Id::into_u64).or_else(current);
        (self.act)(Told::Event(span, fields.0));
    }

    fn enter(&self, span: &span::Id) {
        ENTERED.with(|entered| entered.borrow_mut().push(span.into_u64()));
    }

    fn exit(&self, span: &span::Id) {
        ENTERED.with(|entered| {
            let mut entered = entered.borrow_mut();
            let place = entered.iter().rposition(|own| *own == span.into_u64()).unwrap();
            entered.remove(place);
        });
    }

    fn current_span(&self) -> Current {
        let Some(span) = current() else { return Current::none() };
        let (_, metadata) = self.known.lock().unwrap().live[&span];
        Current::new(span::Id::from_u64(span), metadata)
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        self.known.lock().unwrap().live.get_mut(&span.into_u64()).unwrap().0 += 1;
        span.clone()
    }

    fn try_close(&self, span: span::Id) -> bool {
        let mut known = self.known.lock().unwrap();
        let (count, _) = known.live.get_mut(&span.into_u64()).unwrap();
        *count -= 1;
        if *count > 0 {
            return false;
        }
        known.live.remove(&span.into_u64());
        drop(known);
        (self.act)(Told::Closed(span.into_u64()));
        true
    }
}
