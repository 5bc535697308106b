//! How much of an incoming connection is under way, waits, and may come.

use super::streams::FRAGMENT_COST;

/// One incoming connection.
#[derive(Debug)]
pub(super) struct Intake {
    /// Bytes that have arrived of an incomplete message.
    assembled: u64,
    /// Units of whole messages that wait to be received.
    unread: i64,
    /// Units that the sender may still use. Without meaning in the older
    /// dialects.
    outstanding: i64,
    window: i64,
}

impl Intake {
    pub(super) fn new(window: u32) -> Self {
        Intake { assembled: 0, unread: 0, outstanding: window.into(), window: window.into() }
    }

    /// Whether a message is incomplete.
    pub(super) fn is_assembling(&self) -> bool {
        self.assembled > 0
    }

    /// Bytes that have arrived of an incomplete message.
    pub(super) fn assembled(&self) -> u64 {
        self.assembled
    }

    pub(super) fn unread(&self) -> i64 {
        self.unread
    }

    /// The head of a fragment arrived. Says how long its message is so far.
    pub(super) fn fragment(&mut self, length: u32, more: bool) -> u64 {
        let total = self.assembled + u64::from(length);
        self.assembled = if more { total } else { 0 };
        total
    }

    /// Takes the price of a fragment from the sender's credit; `false` if that
    /// does not suffice.
    pub(super) fn pay(&mut self, length: u32) -> bool {
        self.outstanding -= i64::from(FRAGMENT_COST) + i64::from(length);
        self.outstanding >= 0
    }

    /// A message waits to be received, or was.
    pub(super) fn change_unread(&mut self, units: i64) {
        self.unread += units;
    }

    /// What the sender is to be allowed; see Note [credit].
    pub(super) fn grant(&mut self) -> Option<u32> {
        let missing = self.window - self.unread - self.outstanding;
        if missing < self.window / 2 {
            return None;
        }
        self.outstanding += missing;
        u32::try_from(missing).ok()
    }
}

/// What a whole message counts while it waits to be received.
pub(super) fn units(length: usize) -> i64 {
    i64::from(FRAGMENT_COST) + i64::try_from(length).unwrap_or(i64::MAX / 2)
}
