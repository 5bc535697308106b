//! What should happen, as far as it can be known without any protocol: where each
//! reference leads, and which call must come before which.
//!
//! A *node* is something that a reference may be for: an object, nothing, a
//! failure, or a promise that may lead on to another node. All vats share one
//! graph of them, in which a promise leads on in the moment in which somebody
//! resolves it, while the vats still have to tell each other.
//!
//! A *stream* is what counts calls. All clones of a reference in one vat are one
//! stream. A reference that arrives in a message is a new stream whose *parent* is
//! the sender's, at its position when the message was sent: what went before the
//! fork arrives before what goes through the fork. When a promise is resolved, the
//! stream of what it is resolved to becomes its parent in the same way.
//!
//! Each stream also knows what it came by: links between vats, and other streams.
//! When a link is cut, only what came by that one may fail.

use super::script::Shape;

/// Index of a node.
pub(super) type Node = usize;
/// Index of a stream.
pub(super) type Stream = usize;
/// Index of a call; also its label.
pub(super) type CallId = usize;
/// Index of an object.
pub(super) type Object = usize;

/// How many capabilities a call's parameters and results have at the most.
pub(super) const FIELDS: usize = 2;

/// Links between vats, by their bits.
pub(super) type Links = u32;

#[derive(Default)]
pub(super) struct Shadow {
    nodes: Vec<NodeState>,
    streams: Vec<StreamState>,
    pub(super) calls: Vec<Call>,
    /// The links that were cut.
    cut: Links,
    /// The links, if the vats at their ends introduce each other.
    handoffs: &'static [(usize, usize)],
}

struct NodeState {
    kind: Kind,
    /// Calls on it may fail although it leads somewhere: it is a field of a call
    /// that was cancelled.
    lossy: bool,
    /// The call that it is a field of.
    field_of: Option<CallId>,
    /// It fails because of a circle that leads through what was passed on: see
    /// `Shadow::is_passed_on`.
    passed_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object(Object),
    Null,
    Failed,
    /// A promise that is not resolved.
    Open,
    /// A promise that leads on, by a stream.
    To(Node, Stream),
}

struct StreamState {
    node: Node,
    parent: Option<(Stream, usize)>,
    /// By what the reference came.
    links: Links,
    by: Vec<Stream>,
    calls: Vec<CallId>,
    /// All calls before this one have arrived.
    arrived: usize,
}

/// A call that was made.
pub(super) struct Call {
    stream: Stream,
    place: usize,
    /// For each capability in the parameters, the sender's stream and its
    /// position; `None` for null.
    pub(super) caps: Vec<Option<(Stream, usize)>>,
    pub(super) arrived: Option<Object>,
    /// A later call has arrived, so this one must not any more.
    overtaken_by: Option<CallId>,
    pub(super) cancelled: bool,
    pub(super) answer: Answer,
    /// The fields of its results.
    pub(super) fields: [Stream; FIELDS],
    /// Whose outcome this is, if it is a tail call.
    tail_of: Option<CallId>,
    /// Its caller is not told what it returns, and so not what its fields are.
    untold: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    None,
    Results,
    Failed,
    /// Whatever this call returns.
    Tail(CallId),
}

impl Shadow {
    pub(super) fn new(shape: Shape) -> Self {
        let handoffs = if shape.has_handoffs() { shape.links() } else { &[] };
        Shadow { handoffs, ..Shadow::default() }
    }

    // ---- Nodes

    fn node(&mut self, kind: Kind) -> Node {
        self.nodes.push(NodeState { kind, lossy: false, field_of: None, passed_on: false });
        self.nodes.len() - 1
    }

    fn root(&self, mut node: Node) -> Node {
        while let Kind::To(next, _) = self.nodes[node].kind {
            node = next;
        }
        node
    }

    /// What a stream leads to by now.
    pub(super) fn target(&self, stream: Stream) -> Kind {
        self.nodes[self.root(self.streams[stream].node)].kind
    }

    /// Whether two streams lead to the same thing.
    pub(super) fn same(&self, one: Stream, other: Stream) -> bool {
        self.root(self.streams[one].node) == self.root(self.streams[other].node)
    }

    /// Whether calls through a stream may fail.
    pub(super) fn may_fail(&self, stream: Stream) -> bool {
        if self.is_cut(stream) {
            return true;
        }
        let mut node = self.streams[stream].node;
        loop {
            let state = &self.nodes[node];
            match state.kind {
                _ if state.lossy => return true,
                Kind::Null | Kind::Failed => return true,
                Kind::Object(_) => return false,
                Kind::Open => {
                    let Some(call) = state.field_of else { return false };
                    let never = self.calls[call].arrived.is_none();
                    let stream = self.calls[call].stream;
                    return never && (self.is_cancelled(call) || self.may_fail(stream));
                }
                Kind::To(next, _) => node = next,
            }
        }
    }

    /// The number of references that there have been.
    pub(super) fn references(&self) -> usize {
        self.streams.len()
    }

    /// Whether a stream is, or led on from, what a call returns that was passed on, or of
    /// which only the pipeline is wanted: who passed it on, or made it, may never be told
    /// what that is, see Note [tail calls] and Note [pipeline only].
    pub(super) fn is_passed_on(&self, stream: Stream) -> bool {
        let mut node = self.streams[stream].node;
        loop {
            let state = &self.nodes[node];
            let untold = |call: CallId| {
                self.calls[call].untold || matches!(self.calls[call].answer, Answer::Tail(_))
            };
            if state.passed_on || state.field_of.is_some_and(untold) {
                return true;
            }
            let Kind::To(next, _) = state.kind else { return false };
            node = next;
        }
    }

    /// Whether a stream leads through what a call returns of which only the pipeline is
    /// wanted.
    pub(super) fn is_untold(&self, stream: Stream) -> bool {
        let mut node = self.streams[stream].node;
        loop {
            let state = &self.nodes[node];
            if state.field_of.is_some_and(|call| self.calls[call].untold) {
                return true;
            }
            let Kind::To(next, _) = state.kind else { return false };
            node = next;
        }
    }

    /// Whether a stream leads through what has been told early of a call's results.
    pub(super) fn is_told_early(&self, stream: Stream) -> bool {
        let mut node = self.streams[stream].node;
        while let Kind::To(next, _) = self.nodes[node].kind {
            let open = |call: CallId| self.calls[call].answer == Answer::None;
            if self.nodes[node].field_of.is_some_and(open) {
                return true;
            }
            node = next;
        }
        false
    }

    // ---- Links

    /// Somebody cuts links.
    pub(super) fn cut(&mut self, links: Links) {
        self.cut |= links;
    }

    /// Whether any link was cut.
    pub(super) fn has_cuts(&self) -> bool {
        self.cut != 0
    }

    /// Whether a stream came by a link that was cut.
    pub(super) fn is_cut(&self, stream: Stream) -> bool {
        if self.cut == 0 {
            return false;
        }
        let mut known = vec![false; self.streams.len()];
        let mut next = vec![stream];
        let mut links = 0;
        while let Some(stream) = next.pop() {
            if std::mem::replace(&mut known[stream], true) {
                continue;
            }
            let state = &self.streams[stream];
            links |= state.links;
            next.extend(&state.by);
            let mut node = state.node;
            loop {
                let state = &self.nodes[node];
                next.extend(state.field_of.map(|call| self.calls[call].stream));
                match state.kind {
                    Kind::To(end, by) => {
                        next.push(by);
                        node = end;
                    }
                    _ => break,
                }
            }
        }
        self.between(links) & self.cut != 0
    }

    /// These links and, where vats introduce each other, those between the vats at their
    /// ends.
    fn between(&self, links: Links) -> Links {
        let named = |number: usize| links & 1 << number != 0;
        let ends = |vat: usize| {
            let mut own = self.handoffs.iter().enumerate();
            own.any(|(number, (near, far))| named(number) && [*near, *far].contains(&vat))
        };
        let all = self.handoffs.iter().enumerate();
        let between = all.filter(|(_, (near, far))| ends(*near) && ends(*far));
        between.fold(links, |links, (number, _)| links | 1 << number)
    }

    // ---- Streams

    fn stream_at(&mut self, node: Node, parent: Option<(Stream, usize)>) -> Stream {
        self.streams.push(StreamState {
            node,
            parent,
            links: 0,
            by: Vec::new(),
            calls: Vec::new(),
            arrived: 0,
        });
        self.streams.len() - 1
    }

    /// A reference to something new.
    pub(super) fn stream(&mut self, kind: Kind) -> Stream {
        let node = self.node(kind);
        self.stream_at(node, None)
    }

    /// A reference to the same thing that came by a link and has nothing else to
    /// do with another one.
    pub(super) fn apart(&mut self, stream: Stream, link: Links) -> Stream {
        let stream = self.stream_at(self.streams[stream].node, None);
        self.streams[stream].links = link;
        stream
    }

    /// A stream and how many calls it has sent.
    pub(super) fn position(&self, stream: Stream) -> (Stream, usize) {
        (stream, self.streams[stream].calls.len())
    }

    /// A reference that arrived in the parameters of a call.
    pub(super) fn fork(&mut self, from: (Stream, usize), call: CallId) -> Stream {
        let stream = self.stream_at(self.streams[from.0].node, Some(from));
        self.streams[stream].by = vec![from.0, self.calls[call].stream];
        stream
    }

    /// Whether resolving a promise to this would resolve it to itself.
    pub(super) fn closes_circle(&self, promise: Stream, target: Stream) -> bool {
        self.same(promise, target)
    }

    /// Whether what a stream leads to waits for a promise to be resolved: it is
    /// what a call will return that was made on that promise, or on what such a
    /// call will return.
    pub(super) fn waits_for(&self, stream: Stream, promise: Stream) -> bool {
        let end = self.root(self.streams[promise].node);
        let mut node = self.root(self.streams[stream].node);
        while let Some(call) = self.nodes[node].field_of
            && self.nodes[node].kind == Kind::Open
            && self.calls[call].arrived.is_none()
        {
            node = self.root(self.streams[self.calls[call].stream].node);
            if node == end {
                return true;
            }
        }
        false
    }

    /// Somebody resolves the promise that a stream is for. `None` is null.
    pub(super) fn resolve(&mut self, promise: Stream, target: Option<Stream>) {
        let node = self.streams[promise].node;
        assert_eq!(self.nodes[node].kind, Kind::Open);
        self.nodes[node].kind = match target {
            None => Kind::Null,
            Some(target) if self.closes_circle(promise, target) => {
                self.nodes[node].passed_on = self.is_passed_on(target);
                Kind::Failed
            }
            Some(target) => {
                self.streams[promise].parent = Some(self.position(target));
                Kind::To(self.streams[target].node, target)
            }
        };
    }

    /// Somebody rejects the promise that a stream is for.
    pub(super) fn reject(&mut self, promise: Stream) {
        let node = self.streams[promise].node;
        if self.nodes[node].kind == Kind::Open {
            self.nodes[node].kind = Kind::Failed;
        }
    }

    // ---- Calls

    /// Somebody calls through a stream.
    pub(super) fn call(
        &mut self,
        stream: Stream,
        caps: &[Option<Stream>],
        tail_of: Option<CallId>,
    ) -> CallId {
        let id = self.calls.len();
        let fields = std::array::from_fn(|_| {
            let field = self.stream(Kind::Open);
            let node = self.streams[field].node;
            self.nodes[node].field_of = Some(id);
            field
        });
        let caps = caps.iter().map(|cap| cap.map(|cap| self.position(cap))).collect();
        let calls = &mut self.streams[stream].calls;
        let place = calls.len();
        calls.push(id);
        self.calls.push(Call {
            stream,
            place,
            caps,
            arrived: None,
            overtaken_by: None,
            cancelled: false,
            answer: Answer::None,
            fields,
            tail_of,
            untold: false,
        });
        id
    }

    /// A call has arrived at an object.
    pub(super) fn arrive(&mut self, id: CallId, object: Object) -> Result<(), String> {
        let call = &self.calls[id];
        if let Some(before) = call.arrived {
            return Err(format!("call {id} arrived at object {before}, and again at {object}"));
        }
        let target = self.target(call.stream);
        if target != Kind::Object(object) {
            return Err(format!("call {id} is for {target:?}, but arrived at object {object}"));
        }
        if let Some(other) = call.overtaken_by {
            return Err(format!("call {other} arrived before call {id}, which was made earlier"));
        }
        let (mut stream, mut end) = (call.stream, call.place);
        self.calls[id].arrived = Some(object);
        loop {
            let state = &mut self.streams[stream];
            while state.arrived < state.calls.len()
                && self.calls[state.calls[state.arrived]].arrived.is_some()
            {
                state.arrived += 1;
            }
            for other in state.calls.get(state.arrived..end).unwrap_or_default() {
                let other = &mut self.calls[*other];
                if other.arrived.is_none() {
                    other.overtaken_by.get_or_insert(id);
                }
            }
            match state.parent {
                Some((parent, position)) => (stream, end) = (parent, position),
                None => return Ok(()),
            }
        }
    }

    /// An object answers a call, the fields of which are known.
    pub(super) fn answer(&mut self, id: CallId) {
        self.calls[id].answer = Answer::Results;
    }

    /// An object fails a call.
    pub(super) fn fail(&mut self, id: CallId) {
        self.calls[id].answer = Answer::Failed;
        for field in self.calls[id].fields {
            // If it is known already, some calls may still get there.
            let node = self.streams[field].node;
            self.nodes[node].lossy = true;
            self.reject(field);
        }
    }

    /// An object answers a call by another one.
    pub(super) fn answer_by(&mut self, id: CallId, other: CallId) {
        self.calls[id].answer = Answer::Tail(other);
        let theirs = self.calls[other].fields;
        for (field, other) in self.calls[id].fields.into_iter().zip(theirs) {
            self.resolve(field, Some(other));
        }
        if self.is_cancelled(id) {
            self.cancel(other);
        }
    }

    /// Nobody wants to be told what a call returns, but its fields are called.
    pub(super) fn want_only_fields(&mut self, id: CallId) {
        self.calls[id].untold = true;
    }

    /// Nobody wants to know what a call returns. It may be, or become, cancelled,
    /// and with it the calls that it was passed on as.
    pub(super) fn cancel(&mut self, id: CallId) {
        let mut next = Some(id);
        while let Some(id) = next {
            self.calls[id].cancelled = true;
            for field in self.calls[id].fields {
                let node = self.streams[field].node;
                self.nodes[node].lossy = true;
            }
            next = match self.calls[id].answer {
                Answer::Tail(other) => Some(other),
                _ => None,
            };
        }
    }

    /// Whether a call was cancelled, if only by a cut, or the one was that it is the
    /// tail of.
    pub(super) fn is_cancelled(&self, mut id: CallId) -> bool {
        loop {
            let call = &self.calls[id];
            if call.cancelled || self.is_cut(call.stream) {
                return true;
            }
            match call.tail_of {
                Some(before) => id = before,
                None => return false,
            }
        }
    }

    /// At the end: whether a call succeeds, or `None` if both may be.
    pub(super) fn expected(&self, mut id: CallId) -> Result<Option<bool>, String> {
        loop {
            let call = &self.calls[id];
            if call.arrived.is_none() {
                if !self.may_fail(call.stream) && !self.is_cancelled(id) {
                    return Err(format!(
                        "call {id} is for {:?}, but never arrived",
                        self.target(call.stream)
                    ));
                }
                return Ok(Some(false));
            }
            match call.answer {
                _ if self.is_cancelled(id) => return Ok(None),
                Answer::None => return Err(format!("call {id} was not answered")),
                Answer::Results => return Ok(Some(true)),
                Answer::Failed => return Ok(Some(false)),
                Answer::Tail(other) => id = other,
            }
        }
    }
}
