//! One case: what a peer does, and what must happen.

use std::fmt;

use super::peer::Peer;

/// What a connection is, between the peer and the vat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Unix socket.
    Plain,
    /// TLS over TCP, between vats with keys.
    Tls,
    /// A connection of a network of endpoints.
    Endpoint,
    /// A Unix socket of a network whose vats are introduced to each other.
    Handoff,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Plain, Kind::Tls, Kind::Endpoint, Kind::Handoff];

    /// Whether the vat may be introduced to others by such a peer.
    pub(super) fn introduces(self) -> bool {
        matches!(self, Kind::Endpoint | Kind::Handoff)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Plain => "plain",
            Kind::Tls => "TLS",
            Kind::Endpoint => "endpoint",
            Kind::Handoff => "handoff",
        })
    }
}

/// What must happen, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// The vat ends the connection with an Abort, for a reason that contains this.
    Aborts(&'static str),
    /// The call in question fails, for a reason that contains this.
    Fails(&'static str),
    /// The call in question has results.
    Answers,
    /// The call in question is answered with `canceled`.
    Cancels,
    /// The results of the call in question stay with the vat.
    Keeps,
    /// The message comes back as `unimplemented`.
    Echoes,
    /// Nothing comes of it.
    Ignores,
    /// The peer hears what this says, and nothing else.
    Shows(&'static str),
    /// The connection ends, without an Abort.
    Ends,
}

impl fmt::Display for Must {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Must::Aborts(reason) => write!(f, "Abort: `{reason}`"),
            Must::Fails(reason) => write!(f, "the call fails: `{reason}`"),
            Must::Answers => f.write_str("answered"),
            Must::Cancels => f.write_str("answered with `canceled`"),
            Must::Keeps => f.write_str("answered with `resultsSentElsewhere`"),
            Must::Echoes => f.write_str("sent back as `unimplemented`"),
            Must::Ignores => f.write_str("nothing"),
            Must::Shows(what) => f.write_str(what),
            Must::Ends => f.write_str("the connection ends"),
        }
    }
}

/// A hostile sequence of messages.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What the peer does.
    pub about: &'static str,
    /// What must happen between two vats that nobody introduces to others.
    must: Must,
    /// What must happen where vats are introduced, if that is something else.
    introduced: Option<Must>,
    /// The kinds of connections of which this makes sense.
    on: &'static [Kind],
    /// Whether nothing may precede it, on those connections where that can be.
    pub(super) is_first: bool,
    pub(super) play: fn(&mut Peer),
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A case that is the same everywhere.
pub(super) const fn case(
    name: &'static str,
    about: &'static str,
    must: Must,
    play: fn(&mut Peer),
) -> Case {
    Case { name, about, must, introduced: None, on: &Kind::ALL, is_first: false, play }
}

impl Case {
    /// What must happen where vats are introduced.
    pub(super) const fn introduced(mut self, must: Must) -> Self {
        self.introduced = Some(must);
        self
    }

    pub(super) const fn only(mut self, on: &'static [Kind]) -> Self {
        self.on = on;
        self
    }

    pub(super) const fn first(mut self) -> Self {
        self.is_first = true;
        self
    }

    /// What must happen on a connection of this kind; `None` if the case makes no sense there.
    pub fn must(&self, on: Kind) -> Option<Must> {
        let must = if on.introduces() { self.introduced.unwrap_or(self.must) } else { self.must };
        self.on.contains(&on).then_some(must)
    }

    /// What must happen, for people.
    pub fn musts(&self) -> String {
        match self.introduced {
            None => self.must.to_string(),
            Some(introduced) => {
                format!("{}; where vats are introduced: {introduced}", self.must)
            }
        }
    }
}

/// The cases that are about one kind of message.
#[derive(Debug)]
pub struct Chapter {
    /// The message, or what else they are about.
    pub title: &'static str,
    /// The cases.
    pub cases: &'static [Case],
}
