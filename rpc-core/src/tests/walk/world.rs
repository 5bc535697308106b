//! The vats of a walk and what they hold, and how each step is done to them and to
//! the shadow at the same time.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::script::{Do, Shape, Step};
use super::shadow::{Answer, CallId, FIELDS, Kind, Links, Object, Shadow, Stream};
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::cap::promise::{Fulfiller, promise};
use crate::cap::sameness::Comparison;
use crate::error::Error;
use crate::sync::Mutex;
use crate::tests::content;
use crate::tests::neighbours::Neighbourhood;
use crate::tests::net::{Call, End, INTERFACE, METHOD, Net};
use crate::typed::Pipeline;
use crate::work::executor::Executor;

/// What goes wrong, in a sentence.
pub(super) type Check = Result<(), String>;

/// A vat drops a reference when it has more than this.
const MANY_REFS: usize = 8;
/// A vat gives up a call of which only the fields are wanted when it has more than this.
const MANY_PIPELINES: usize = 2;

pub(super) struct World {
    net: Net,
    network: Arc<Neighbourhood>,
    shape: Shape,
    shadow: Shadow,
    vats: Vec<Vat>,
    /// Each end of a link.
    ends: Vec<LinkEnd>,
    /// What this one has sent is delivered after everything else.
    delayed: Option<End>,
    arrivals: Arrivals,
    objects: Vec<ObjectState>,
    /// What each vat offers.
    bootstraps: Vec<Stream>,
    /// Calls that ended, with what they returned.
    ended: Vec<(CallId, Option<bool>)>,
    /// Calls whose fields may not be called before they have returned.
    without_pipeline: HashSet<CallId>,
}

/// Calls that arrived at objects and were not looked at yet.
type Arrivals = Arc<Mutex<VecDeque<(Object, IncomingCall)>>>;

#[derive(Default)]
struct Vat {
    refs: Vec<Ref>,
    /// What was called last, and is often called again: it takes two calls to arrive
    /// in the wrong order.
    last: Option<Ref>,
    calls: Vec<(CallId, Call)>,
    /// Calls of which only the fields are wanted.
    pipelines: Vec<(CallId, Pipeline)>,
    promises: Vec<(Stream, Fulfiller)>,
    held: Vec<Held>,
    /// What is asked, and of which two references.
    comparisons: Vec<([Stream; 2], Comparison)>,
}

#[derive(Clone, Copy)]
struct LinkEnd {
    end: End,
    /// In which vat it is, and to which one it leads.
    vats: (usize, usize),
    link: Links,
}

/// A call that an object is working on.
struct Held {
    id: CallId,
    call: IncomingCall,
    /// The capabilities of its results, if they have been told.
    early: Option<Vec<Option<Ref>>>,
}

#[derive(Clone)]
struct Ref {
    client: Client,
    stream: Stream,
}

struct ObjectState {
    vat: usize,
    drops: Arc<AtomicUsize>,
}

struct Recorder {
    object: Object,
    arrivals: Arrivals,
    drops: Arc<AtomicUsize>,
}

impl Dispatch for Recorder {
    fn dispatch(&self, call: IncomingCall) {
        self.arrivals.lock().push_back((self.object, call));
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

impl World {
    pub(super) fn new(shape: Shape, net: Net) -> Self {
        let mut world = World {
            net,
            network: Neighbourhood::new(),
            shape,
            shadow: Shadow::new(shape),
            vats: (0..shape.vats()).map(|_| Vat::default()).collect(),
            ends: Vec::new(),
            delayed: None,
            arrivals: Arrivals::default(),
            objects: Vec::new(),
            bootstraps: Vec::new(),
            ended: Vec::new(),
            without_pipeline: HashSet::new(),
        };
        let roots: Vec<Ref> =
            (0..shape.vats()).map(|vat| world.object(vat, Concurrency::Serial)).collect();
        for (number, (near, far)) in shape.links().iter().copied().enumerate() {
            let [ours, theirs] = [near, far].map(|vat| Some(roots[vat].client.clone()));
            let (one, two) = if shape.has_handoffs() {
                let vats = [near, far].map(|vat| u8::try_from(vat).unwrap_or(0));
                world.net.link_in(&world.network, vats, ours, theirs)
            } else {
                world.net.link(ours, theirs)
            };
            let link = 1 << number;
            world.ends.push(LinkEnd { end: one, vats: (near, far), link });
            world.ends.push(LinkEnd { end: two, vats: (far, near), link });
        }
        world.bootstraps = roots.into_iter().map(|root| root.stream).collect();
        for place in 0..world.ends.len() {
            world.bootstrap(place, 0);
        }
        world
    }

    /// Does one step and checks everything after it.
    pub(super) fn step(&mut self, step: Step) -> Check {
        self.net.note(|| format!("{step:?}"));
        let Step(what, [vat, a, b, c]) = step;
        let vat = usize::from(vat) % self.vats.len();
        let [a, b, c] = [a, b, c].map(usize::from);
        match what {
            Do::Call => self.call(vat, a, [b, c]),
            Do::Pipeline => self.pipeline(vat, [a, b, c]),
            Do::Hinted if a % 2 == 0 => self.call_for_fields(vat, a / 2, [b, c]),
            Do::Hinted => self.call_without_pipeline(vat, a / 2, [b, c]),
            Do::Read => self.read(vat, a, b)?,
            Do::DropCall => self.drop_call(vat, a),
            Do::NewObject => {
                let concurrency = [
                    Concurrency::Serial,
                    Concurrency::Serial,
                    Concurrency::Concurrent,
                    Concurrency::Inline,
                ][a % 4];
                let object = self.object(vat, concurrency);
                self.keep(vat, object, b);
            }
            Do::NewPromise => {
                let (client, fulfiller) = promise();
                let stream = self.shadow.stream(Kind::Open);
                self.vats[vat].promises.push((stream, fulfiller));
                self.keep(vat, Ref { client, stream }, a);
            }
            Do::Fulfil => {
                if let (Some(promise), Some(target)) =
                    (index(&self.vats[vat].promises, a), self.pick_away(vat, b))
                {
                    self.fulfil(vat, promise, Some(target));
                }
            }
            Do::Reject => {
                if let Some(promise) = index(&self.vats[vat].promises, a) {
                    if b % 2 == 0 {
                        self.fulfil(vat, promise, None);
                    } else {
                        let (stream, fulfiller) = self.vats[vat].promises.remove(promise);
                        self.shadow.reject(stream);
                        fulfiller.reject(Error::failed("rejected"));
                    }
                }
            }
            Do::Clone => {
                if let Some(held) = self.pick(vat, a) {
                    self.keep(vat, held, b);
                }
            }
            Do::Drop => {
                if let Some(place) = index(&self.vats[vat].refs, a) {
                    let gone = self.vats[vat].refs.remove(place);
                    drop(gone);
                }
            }
            Do::Answer => {
                if let Some(place) = index(&self.vats[vat].held, a) {
                    let held = self.vats[vat].held.remove(place);
                    let caps = self.pick_caps(vat, [b, c]);
                    self.answer(held, caps);
                }
            }
            Do::Early => {
                if let Some(place) = index(&self.vats[vat].held, a) {
                    let caps = self.pick_caps(vat, [b, c]);
                    self.answer_early(vat, place, caps);
                }
            }
            Do::Fail => {
                if let Some(place) = index(&self.vats[vat].held, a) {
                    let Held { id, call, .. } = self.vats[vat].held.remove(place);
                    self.shadow.fail(id);
                    if b % 2 == 0 {
                        call.respond(Err(Error::failed("failed")));
                    } else {
                        drop(call);
                    }
                }
            }
            Do::TailCall => {
                if let (Some(place), Some(target)) =
                    (index(&self.vats[vat].held, a), self.pick_away(vat, b))
                {
                    self.tail_call(vat, place, &target, c);
                }
            }
            Do::Bootstrap => self.bootstrap(a, b),
            Do::Deliver => {
                let ends = self.ends.iter().map(|end| end.end);
                let mut busy: Vec<End> = ends.filter(|end| self.net.queued(*end) > 0).collect();
                if busy.len() > 1 {
                    busy.retain(|end| Some(*end) != self.delayed);
                }
                if let Some(place) = index(&busy, a) {
                    self.net.deliver_one(busy[place]);
                }
            }
            Do::Flush => {
                if let Some(place) = index(&self.ends, a) {
                    let end = self.ends[place].end;
                    for _ in 0..self.net.queued(end) {
                        self.net.deliver_one(end);
                    }
                }
            }
            Do::Delay => {
                let place = index(&self.ends, a).filter(|_| b % 4 > 0);
                self.delayed = place.map(|place| self.ends[place].end);
            }
            Do::Run => {
                self.net.jobs.run_one();
            }
            Do::Cut => {
                if let Some(place) = index(&self.ends, a) {
                    let LinkEnd { end, link, .. } = self.ends[place];
                    self.shadow.cut(link);
                    self.net.cut(end);
                }
            }
            Do::Limit => {
                if let Some(place) = index(&self.ends, a) {
                    let words = [0, 0, 30, 100, u64::MAX][b % 5];
                    self.net.set_flow_limit(self.ends[place].end, words);
                }
            }
            Do::Introduce => {
                self.network.closed.store(a % 2 == 0, Ordering::SeqCst);
                self.network.eager.store(b % 4 == 0, Ordering::SeqCst);
            }
            Do::Habits => {
                self.network.forwards.store(a % 2 == 1, Ordering::SeqCst);
                self.network.pipelines.store(b % 4 == 1, Ordering::SeqCst);
            }
            Do::Slow => self.network.slow.store(a % 4 > 0, Ordering::SeqCst),
            Do::Find => {
                self.network.find_one();
            }
            Do::Compare => {
                if let (Some(one), Some(other)) = (self.pick_away(vat, a), self.pick_away(vat, b)) {
                    self.compare(vat, &one, &other);
                }
                if c % 4 == 0
                    && let Some(place) = index(&self.vats[vat].comparisons, c / 4)
                {
                    drop(self.vats[vat].comparisons.remove(place));
                }
            }
        }
        self.take_arrivals()?;
        self.net.check();
        Ok(())
    }

    /// Shows what was delivered.
    pub(super) fn print_journal(&self) {
        self.net.print_journal();
    }

    // ---- Steps

    fn object(&mut self, vat: usize, concurrency: Concurrency) -> Ref {
        let drops = Arc::new(AtomicUsize::new(0));
        let object = self.objects.len();
        self.objects.push(ObjectState { vat, drops: Arc::clone(&drops) });
        let arrivals = Arc::clone(&self.arrivals);
        let server = Arc::new(Recorder { object, arrivals, drops });
        let executor = Arc::clone(&self.net.jobs) as Arc<dyn Executor>;
        Ref {
            client: Client::of(LocalObject::new(server, concurrency, executor)),
            stream: self.shadow.stream(Kind::Object(object)),
        }
    }

    /// Gives a vat one more reference, which may push another one out.
    fn keep(&mut self, vat: usize, held: Ref, choice: usize) {
        let refs = &mut self.vats[vat].refs;
        refs.push(held);
        if refs.len() > MANY_REFS {
            let gone = refs.remove(choice % MANY_REFS);
            drop(gone);
        }
    }

    fn pick(&self, vat: usize, choice: usize) -> Option<Ref> {
        let refs = &self.vats[vat].refs;
        Some(refs[recent(refs, choice)?].clone())
    }

    /// Mostly something that is elsewhere, or may turn out to be.
    fn pick_away(&self, vat: usize, choice: usize) -> Option<Ref> {
        let refs = self.vats[vat].refs.iter();
        let away: Vec<&Ref> = refs.filter(|held| held.client.local_dispatch().is_none()).collect();
        match recent(&away, choice / 8) {
            Some(place) if !choice.is_multiple_of(8) => Some(away[place].clone()),
            _ => self.pick(vat, choice / 8),
        }
    }

    /// None, one or two capabilities; a null one now and then.
    fn pick_caps(&self, vat: usize, choices: [usize; FIELDS]) -> Vec<Option<Ref>> {
        let count = choices[0] % (FIELDS + 1);
        let choices = choices.iter().map(|choice| choice / 8).take(count);
        choices
            .map(|choice| match choice % 16 {
                0 => None,
                kind if kind % 2 == 0 => self.pick_away(vat, choice / 16),
                _ => self.pick(vat, choice / 16),
            })
            .collect()
    }

    fn call(&mut self, vat: usize, via: usize, caps: [usize; FIELDS]) {
        let last = self.vats[vat].last.take().filter(|_| !via.is_multiple_of(4));
        let Some(via) = last.or_else(|| self.pick_away(vat, via / 4)) else { return };
        let caps = self.pick_caps(vat, caps);
        self.call_with(vat, &via, &caps);
    }

    fn call_without_pipeline(&mut self, vat: usize, via: usize, caps: [usize; FIELDS]) {
        let Some(via) = self.pick_away(vat, via) else { return };
        let caps = self.pick_caps(vat, caps);
        let id = self.shadow.call(via.stream, &streams(&caps), None);
        let call = self.net.call_without_pipeline(&via.client, id as u64, &clients(&caps));
        self.without_pipeline.insert(id);
        self.vats[vat].calls.push((id, call));
        self.vats[vat].last = Some(via);
    }

    /// Makes a call of which only the fields are wanted, and gives up the oldest one.
    fn call_for_fields(&mut self, vat: usize, via: usize, caps: [usize; FIELDS]) {
        let Some(via) = self.pick_away(vat, via) else { return };
        let caps = self.pick_caps(vat, caps);
        let id = self.shadow.call(via.stream, &streams(&caps), None);
        self.shadow.want_only_fields(id);
        let pipeline = self.net.call_for_fields(&via.client, id as u64, &clients(&caps));
        for (field, stream) in (0..).zip(self.shadow.calls[id].fields) {
            let client = pipeline.get_pointer_field(field).as_cap();
            self.keep(vat, Ref { client, stream }, id);
        }
        self.vats[vat].pipelines.push((id, pipeline));
        if self.vats[vat].pipelines.len() > MANY_PIPELINES {
            let (id, pipeline) = self.vats[vat].pipelines.remove(0);
            self.shadow.cancel(id);
            drop(pipeline);
        }
        self.vats[vat].last = Some(via);
    }

    fn call_with(&mut self, vat: usize, via: &Ref, caps: &[Option<Ref>]) {
        let id = self.shadow.call(via.stream, &streams(caps), None);
        let call = self.net.call(&via.client, id as u64, &clients(caps));
        self.vats[vat].calls.push((id, call));
        self.vats[vat].last = Some(via.clone());
    }

    /// Takes a field, and mostly calls it at once.
    fn pipeline(&mut self, vat: usize, [call, field, then]: [usize; 3]) {
        let Some(call) = recent(&self.vats[vat].calls, call) else { return };
        let (id, call) = &self.vats[vat].calls[call];
        if self.without_pipeline.contains(id) && call.result().is_none() {
            return;
        }
        let field = field % FIELDS;
        let client = call.pipelined(u16::try_from(field).unwrap_or(0));
        let held = Ref { client, stream: self.shadow.calls[*id].fields[field] };
        self.keep(vat, held.clone(), then);
        if !then.is_multiple_of(4) {
            self.call_with(vat, &held, &[]);
        }
    }

    fn read(&mut self, vat: usize, call: usize, field: usize) -> Check {
        let Some(call) = recent(&self.vats[vat].calls, call) else { return Ok(()) };
        let (id, call) = &self.vats[vat].calls[call];
        let Some(Ok(results)) = call.result() else { return Ok(()) };
        let field = field % FIELDS;
        let client = content::cap(&results, u16::try_from(field).unwrap_or(0));
        let stream = self.shadow.calls[*id].fields[field];
        if !client.is_null() {
            self.keep(vat, Ref { client, stream }, field);
        } else if self.shadow.target(stream) != Kind::Null {
            return Err(format!(
                "field {field} of call {id} is null, but should be {:?}",
                self.shadow.target(stream)
            ));
        }
        Ok(())
    }

    fn drop_call(&mut self, vat: usize, call: usize) {
        let Some(call) = recent(&self.vats[vat].calls, call) else { return };
        let (id, call) = self.vats[vat].calls.remove(call);
        match call.result() {
            None => self.shadow.cancel(id),
            Some(result) => self.ended.push((id, Some(result.is_ok()))),
        }
        drop(call);
    }

    fn fulfil(&mut self, vat: usize, promise: usize, target: Option<Ref>) {
        let (stream, fulfiller) = self.vats[vat].promises.remove(promise);
        let target = target.filter(|target| self.may_become(stream, target.stream));
        self.shadow.resolve(stream, target.as_ref().map(|target| target.stream));
        fulfiller.fulfill(target.map_or_else(Client::null, |target| target.client));
    }

    /// Circles are found in a vat, and between two of them, but not over three, not before
    /// the call is answered of which a field is told early and part of it, and not where
    /// nobody is told what a call returns. What waits for itself in another way waits for
    /// ever.
    fn may_become(&self, promise: Stream, target: Stream) -> bool {
        let circle = self.shadow.closes_circle(promise, target);
        let unseen = self.shape != Shape::Pair
            || self.shadow.is_told_early(target)
            || self.shadow.is_untold(target);
        !(circle && unseen || self.shadow.waits_for(target, promise))
    }

    /// Answers with what was told before, or with these.
    fn answer(&mut self, held: Held, caps: Vec<Option<Ref>>) {
        let Held { id, call, early } = held;
        let caps = early.unwrap_or_else(|| self.set_fields(id, caps));
        self.shadow.answer(id);
        call.respond(Ok(content::results(id as u64, &clients(&caps))));
    }

    /// Tells what the results will have in them.
    fn answer_early(&mut self, vat: usize, place: usize, caps: Vec<Option<Ref>>) {
        let Held { id, early: None, .. } = self.vats[vat].held[place] else { return };
        let fields = self.shadow.calls[id].fields;
        let circle = |cap: &Ref| fields.iter().any(|own| self.shadow.same(*own, cap.stream));
        let caps = caps.into_iter().map(|cap| cap.filter(|cap| !circle(cap))).collect();
        let caps = self.set_fields(id, caps);
        let held = &mut self.vats[vat].held[place];
        held.call.set_pipeline(content::results(id as u64, &clients(&caps)));
        held.early = Some(caps);
    }

    /// Says what the fields of a call are: these, but for those that would wait for
    /// themselves.
    fn set_fields(&mut self, id: CallId, caps: Vec<Option<Ref>>) -> Vec<Option<Ref>> {
        let fields = self.shadow.calls[id].fields;
        let waits =
            |cap: &Ref| fields.iter().any(|other| self.shadow.waits_for(cap.stream, *other));
        let mut caps: Vec<Option<Ref>> =
            caps.into_iter().map(|cap| cap.filter(|cap| !waits(cap))).collect();
        // One after the other: the first may lead to the second.
        for (index, field) in fields.into_iter().enumerate() {
            let cap = caps.get_mut(index);
            let cap = cap.and_then(|cap| {
                *cap = cap.take().filter(|cap| self.may_become(field, cap.stream));
                cap.as_ref().map(|cap| cap.stream)
            });
            self.shadow.resolve(field, cap);
        }
        caps
    }

    fn compare(&mut self, vat: usize, one: &Ref, other: &Ref) {
        let comparison = one.client.compare(&other.client);
        self.vats[vat].comparisons.push(([one.stream, other.stream], comparison));
    }

    fn tail_call(&mut self, vat: usize, place: usize, target: &Ref, cap: usize) {
        let Held { id, early: None, .. } = self.vats[vat].held[place] else { return };
        let fields = self.shadow.calls[id].fields;
        if fields.iter().any(|field| {
            self.shadow.closes_circle(*field, target.stream)
                || self.shadow.waits_for(target.stream, *field)
        }) {
            return;
        }
        let Held { call, .. } = self.vats[vat].held.remove(place);
        let caps = self.pick_caps(vat, [cap, cap / 3]);
        let other = self.shadow.call(target.stream, &streams(&caps), Some(id));
        self.shadow.answer_by(id, other);
        let params = content::params(other as u64, &clients(&caps));
        call.tail_call(&target.client, INTERFACE, METHOD, params);
    }

    /// Asks for what the other side of a link offers.
    fn bootstrap(&mut self, place: usize, choice: usize) {
        let LinkEnd { end, vats: (near, far), link } = self.ends[place % self.ends.len()];
        let client = self.net.bootstrap(end);
        let stream = self.shadow.apart(self.bootstraps[far], link);
        self.keep(near, Ref { client, stream }, choice);
    }

    /// Looks at the calls that have arrived since the last look.
    fn take_arrivals(&mut self) -> Check {
        loop {
            let next = self.arrivals.lock().pop_front();
            let Some((object, call)) = next else { return Ok(()) };
            let id = usize::try_from(content::label(call.params())).unwrap_or(usize::MAX);
            self.shadow.arrive(id, object)?;
            let vat = self.objects[object].vat;
            let caps = self.shadow.calls[id].caps.clone();
            for (field, cap) in (0..).zip(caps) {
                let client = content::cap(call.params(), field);
                match cap {
                    None if client.is_null() => {}
                    None => return Err(format!("parameter {field} of call {id} is not null")),
                    Some(from) => {
                        let stream = self.shadow.fork(from, id);
                        self.keep(vat, Ref { client, stream }, id);
                    }
                }
            }
            self.vats[vat].held.push(Held { id, call, early: None });
        }
    }

    // ---- The end

    /// Lets everything come to rest, and checks that it came to the right one.
    pub(super) fn end(&mut self) -> Check {
        self.finish_work()?;
        if self.shape.has_handoffs() {
            // A capability of a third vat is not looked for before it is used, and what is
            // found then may be one of yet another vat, or of one by which it has come before.
            // It has come by so many places at the most as there were references.
            let most = self.shadow.references();
            for round in 1..=most.max(self.vats.len()) {
                self.call_all_references();
                self.finish_work()?;
                self.end_waits_for_what_was_cut()?;
                if round >= self.vats.len() && self.knows_too_little().is_none() {
                    break;
                }
            }
        }
        self.net.check_agreement();
        self.check_references()?;
        self.call_all_references();
        self.compare_references();
        self.finish_work()?;
        self.check_outcomes()?;
        self.check_comparisons()?;
        for vat in &mut self.vats {
            vat.comparisons.clear();
            vat.refs.clear();
            vat.last = None;
            vat.calls.clear();
            vat.pipelines.clear();
        }
        self.rest()?;
        if !self.net.is_empty() {
            // Note [tail calls], Note [pipeline only].
            self.net.give_up_kept_fields();
        }
        self.net.find_remains()?;
        for (object, state) in self.objects.iter().enumerate() {
            let drops = state.drops.load(Ordering::SeqCst);
            if drops != 1 {
                return Err(format!("object {object} was dropped {drops} times"));
            }
        }
        Ok(())
    }

    /// Where a link was cut, a host may not learn that an embargo will not be lifted: whoever
    /// waits for that does so until the time for it is over, and walks have no clock.
    fn end_waits_for_what_was_cut(&mut self) -> Check {
        if self.shadow.has_cuts() {
            self.network.end_waits();
            self.finish_work()?;
        }
        Ok(())
    }

    /// Resolves what is not resolved, and answers what is not answered.
    fn finish_work(&mut self) -> Check {
        // Calls of one vat may be what those wait for that another one holds back.
        for place in 0..self.ends.len() {
            self.net.set_flow_limit(self.ends[place].end, u64::MAX);
        }
        self.network.slow.store(false, Ordering::SeqCst);
        while self.network.find_one() {}
        self.rest()?;
        loop {
            for vat in 0..self.vats.len() {
                while let Some(promise) = self.vats[vat].promises.len().checked_sub(1) {
                    let target = self.pick(vat, promise);
                    self.fulfil(vat, promise, target);
                }
                for held in std::mem::take(&mut self.vats[vat].held) {
                    self.answer(held, Vec::new());
                }
            }
            self.rest()?;
            if self.vats.iter().all(|vat| vat.held.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Where each reference leads shows when it is called.
    fn call_all_references(&mut self) {
        for vat in 0..self.vats.len() {
            for held in self.vats[vat].refs.clone() {
                self.call_with(vat, &held, &[]);
            }
        }
    }

    fn rest(&mut self) -> Check {
        loop {
            self.net.settle();
            if self.arrivals.lock().is_empty() {
                return Ok(());
            }
            self.take_arrivals()?;
        }
    }

    /// A vat that has a reference which does not know what it is, and what that is.
    fn knows_too_little(&self) -> Option<(usize, Kind)> {
        let all = self.vats.iter().enumerate();
        let mut all = all.flat_map(|(vat, state)| state.refs.iter().map(move |held| (vat, held)));
        let (vat, held) = all.find(|(_, held)| {
            held.client.is_unresolved() && !self.shadow.is_passed_on(held.stream)
        })?;
        Some((vat, self.shadow.target(held.stream)))
    }

    /// Every reference knows what it is, and it is that.
    fn check_references(&self) -> Check {
        if let Some((vat, target)) = self.knows_too_little() {
            return Err(format!(
                "a reference of vat {vat} leads to {target:?}, but does not know it"
            ));
        }
        for (number, vat) in self.vats.iter().enumerate() {
            for held in &vat.refs {
                let target = self.shadow.target(held.stream);
                let client = &held.client;
                let says = match target {
                    _ if self.shadow.may_fail(held.stream) => continue,
                    Kind::Object(object) if self.objects[object].vat == number => {
                        let local = client.local_dispatch();
                        let local = local
                            .as_ref()
                            .and_then(|server| server.as_any().downcast_ref::<Recorder>())
                            .map(|recorder| recorder.object);
                        if local.is_none_or(|local| local == object) {
                            continue;
                        }
                        format!("{local:?}")
                    }
                    Kind::Object(_) if client.local_dispatch().is_none() => continue,
                    _ => format!("{client:?}"),
                };
                return Err(format!(
                    "a reference of vat {number} should lead to {target:?}, but is {says}"
                ));
            }
        }
        Ok(())
    }

    /// Every call whose outcome is still wanted has ended as it should.
    fn check_outcomes(&mut self) -> Check {
        for vat in &self.vats {
            for (id, call) in &vat.calls {
                self.ended.push((*id, call.result().map(|result| result.is_ok())));
                if let Some(Ok(results)) = call.result()
                    && content::label(&results) != self.answered_by(*id) as u64
                {
                    return Err(format!("call {id} returned the results of another call"));
                }
            }
        }
        for (id, outcome) in &self.ended {
            let expected = self.shadow.expected(*id)?;
            let Some(outcome) = outcome else {
                return Err(format!("call {id} never ended"));
            };
            if expected.is_some_and(|expected| expected != *outcome) {
                return Err(format!("call {id} ended with success: {outcome}"));
            }
        }
        for id in 0..self.shadow.calls.len() {
            self.shadow.expected(id)?;
        }
        Ok(())
    }

    /// Asks of each reference whether it is the same as the next one.
    fn compare_references(&mut self) {
        for vat in 0..self.vats.len() {
            let refs = self.vats[vat].refs.clone();
            for pair in refs.windows(2) {
                self.compare(vat, &pair[0], &pair[1]);
            }
        }
    }

    /// Capabilities are the same if and only if they lead to the same.
    fn check_comparisons(&self) -> Check {
        for ([one, other], comparison) in self.vats.iter().flat_map(|vat| &vat.comparisons) {
            let both = [*one, *other];
            // A promise for what somebody else was told may never resolve, and so may
            // its comparison.
            if both.iter().any(|stream| self.shadow.is_passed_on(*stream)) {
                continue;
            }
            let (is, to) = (self.shadow.target(*one), self.shadow.target(*other));
            match comparison.try_answer() {
                None => return Err(format!("the comparison of {is:?} and {to:?} never ended")),
                Some(Ok(same)) if same != (is == to) => {
                    return Err(format!("{is:?} and {to:?} are taken for the same: {same}"));
                }
                Some(Err(error)) if !both.iter().any(|stream| self.shadow.may_fail(*stream)) => {
                    return Err(format!("{is:?} and {to:?} cannot be compared: {error}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn answered_by(&self, mut id: CallId) -> CallId {
        while let Answer::Tail(other) = self.shadow.calls[id].answer {
            id = other;
        }
        id
    }
}

fn streams(caps: &[Option<Ref>]) -> Vec<Option<Stream>> {
    caps.iter().map(|cap| cap.as_ref().map(|held| held.stream)).collect()
}

fn clients(caps: &[Option<Ref>]) -> Vec<Client> {
    caps.iter()
        .map(|cap| cap.as_ref().map_or_else(Client::null, |held| held.client.clone()))
        .collect()
}

/// A place in a list, if it has any.
fn index<T>(list: &[T], choice: usize) -> Option<usize> {
    (!list.is_empty()).then(|| choice % list.len())
}

/// A place in a list, more often than not close to its end. What has just come
/// about is what mistakes are made with.
fn recent<T>(list: &[T], choice: usize) -> Option<usize> {
    let place = index(list, choice / 4)?;
    let last = list.len() - 1;
    Some(if choice.is_multiple_of(4) { place } else { last - choice / 4 % list.len().min(3) })
}
