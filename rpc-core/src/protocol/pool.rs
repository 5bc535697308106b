//! The pools from which ids are taken.

/// Number of ids of which a word tells whether they are free.
const BITS: usize = u64::BITS as usize;

/// The ids that are free. The lowest one is used first, so that ids stay low, and the
/// tables of both sides small.
///
/// In the words of the first level, a bit stands for an id; in those of each further level, for a
/// word of the level before, which has a bit that is set. So the lowest id is found in as many
/// steps as there are levels, of which five are enough for all ids.
#[derive(Debug, Default)]
pub(crate) struct IdPool {
    /// This id and all above it are free.
    next: u32,
    /// The free ids below.
    levels: Vec<Vec<u64>>,
    in_use: u32,
}

impl IdPool {
    /// Takes the lowest free id; `None` when all 2^30 are taken. Higher ids have a
    /// meaning of their own at level 3.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        let id = if self.in_use < self.next {
            self.take_lowest()?
        } else if self.next < 1 << 30 {
            self.next += 1;
            self.next - 1
        } else {
            return None;
        };
        self.in_use += 1;
        Some(id)
    }

    /// Gives back an id that [`allocate`](Self::allocate) handed out.
    pub(crate) fn release(&mut self, id: u32) {
        debug_assert!(id < self.next, "id {id} was never handed out");
        // An id that is given back twice makes this wrong.
        self.in_use = self.in_use.saturating_sub(1);
        if self.in_use == 0 {
            // What a busy time has taken.
            self.next = 0;
            self.levels = Vec::new();
        } else if id + 1 == self.next {
            self.next = id;
        } else {
            self.enter(id);
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        usize::try_from(self.in_use).unwrap_or(usize::MAX)
    }

    fn take_lowest(&mut self) -> Option<u32> {
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let word = level.get(index).filter(|word| **word != 0)?;
            index = index * BITS + word.trailing_zeros() as usize;
        }
        let id = u32::try_from(index).ok();
        for level in &mut self.levels {
            let word = level.get_mut(index / BITS)?;
            *word &= !(1 << (index % BITS));
            if *word != 0 {
                break;
            }
            index /= BITS;
        }
        id
    }

    fn enter(&mut self, id: u32) {
        let mut index = usize::try_from(id).unwrap_or(usize::MAX);
        if self.levels.first().is_none_or(|words| index / BITS >= words.len()) {
            self.make_room(index / BITS + 1);
        }
        for level in &mut self.levels {
            // There is room for all of them.
            let Some(word) = level.get_mut(index / BITS) else { return };
            let bit = 1 << (index % BITS);
            debug_assert!(*word & bit == 0, "id {id} is free already");
            let before = std::mem::replace(word, *word | bit);
            if before != 0 {
                break;
            }
            index /= BITS;
        }
    }

    /// Makes room for this many words of ids.
    fn make_room(&mut self, words: usize) {
        let mut ids = self.levels.drain(..).next().unwrap_or_default();
        ids.resize(words.next_power_of_two(), 0);
        self.levels.push(ids);
        while let Some(below) = self.levels.last()
            && below.len() > 1
        {
            let word = |words: &[u64]| {
                let bits = words.iter().enumerate();
                bits.fold(0, |bits, (bit, word)| bits | u64::from(*word != 0) << bit)
            };
            let above = below.chunks(BITS).map(word).collect();
            self.levels.push(above);
        }
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests;
