//! Bytes as choices.

/// What is left of the bytes. When there are none, every choice is the first one.
pub(super) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// One of a list, if it has any.
    pub(super) fn one<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        let choice = usize::from(self.byte());
        list.get(choice.checked_rem(list.len())?)
    }

    /// Mostly one of few numbers, as ids are.
    pub(super) fn id(&mut self) -> u32 {
        match self.byte() {
            byte @ 0..=199 => u32::from(byte % 8),
            byte @ 200..=229 => u32::from(byte),
            // Where this library counts what it provides.
            byte @ 230..=249 => (1 << 31) + u32::from(byte % 4),
            _ => u32::MAX,
        }
    }
}
