//! Messages as implementations may lay them out that have their own order of things, their
//! own segments, and schemas that are older or newer than this one; and as hostile peers may.

use capnp::Word;

use super::Frame;
use crate::tests::walk::Random;

/// What a pointer leads to.
enum Object {
    Struct {
        data: Vec<u64>,
        pointers: Vec<Option<Object>>,
    },
    Bytes(Vec<u64>),
    /// A list of structs without pointers that are not null.
    Structs {
        pointers: usize,
        elements: Vec<Vec<u64>>,
    },
    Capability(u64),
}

/// The segments of a message.
struct Segments {
    words: Vec<Vec<u64>>,
    /// The segments and words of the pointers to structs in the same segment.
    near: Vec<(usize, usize)>,
}

/// Where an object is, and what its pointer says of it beside that.
struct Place {
    segment: usize,
    word: usize,
    is_empty: bool,
    kind: u64,
}

const STRUCT: u64 = 0;
const LIST: u64 = 1;
const FAR: u64 = 2;
const OTHER: u64 = 3;

/// A frame that the seed chooses: three in four are hostile.
pub(super) fn frame(seed: u64) -> Frame {
    let random = &mut Random::new(seed);
    let mut segments = laid_out(random);
    for _ in 0..random.below(4) {
        segments.spoil(random);
    }
    segments.frame()
}

fn laid_out(random: &mut Random) -> Segments {
    let count = if rarely(random, 8) { 2 + random.below(2) } else { 1 };
    let mut segments = Segments { words: vec![Vec::new(); count as usize], near: Vec::new() };
    segments.words[0].push(0);
    let message = message(random);
    let root = segments.place(random, &message);
    segments.point(random, (0, 0), &root);
    let spare = if rarely(random, 4) { random.below(4) } else { 0 };
    segments.words[0].extend((0..spare).map(|_| 0));
    segments
}

fn rarely(random: &mut Random, one_in: u64) -> bool {
    random.below(one_in) == 0
}

/// A word as most structs of the protocol begin: an id, a small number or some bits, a tag.
fn first_word(random: &mut Random) -> u64 {
    let id = random.next() & 0xffff_ffff;
    let bits = if rarely(random, 4) { random.next() & 0xffff } else { random.below(4) };
    let tag = match random.below(8) {
        0 => random.next() & 0xffff,
        1 | 2 => random.below(6),
        _ => 0,
    };
    id | bits << 32 | tag << 48
}

fn later_word(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => 0,
        _ => random.below(8),
    }
}

/// A struct with as many words as its author's schema has.
fn object(random: &mut Random, first: u64, fields: Vec<Option<Object>>) -> Object {
    let length = if rarely(random, 16) { random.below(800) } else { random.below(4) + 1 };
    let length = if rarely(random, 12) { 0 } else { length };
    let mut data: Vec<u64> = (1..length.max(1)).map(|_| later_word(random)).collect();
    data.insert(0, first);
    data.truncate(length as usize);
    let mut pointers = fields;
    if rarely(random, 8) {
        pointers.push(rarely(random, 2).then(|| Object::Bytes(vec![random.next()])));
    }
    if rarely(random, 16) {
        pointers.truncate(random.below(3) as usize);
    }
    Object::Struct { data, pointers }
}

fn message(random: &mut Random) -> Object {
    let tag = if rarely(random, 8) { random.below(16) } else { 2 + random.below(3) };
    let fields = match tag {
        2 => vec![target(random), payload(random), None],
        3 => vec![payload(random)],
        4 => Vec::new(),
        _ => vec![target(random), None],
    };
    let first = first_word(random);
    let inner = (!rarely(random, 16)).then(|| object(random, first, fields));
    let rest = if rarely(random, 8) { random.next() << 16 } else { 0 };
    object(random, tag | rest, vec![inner])
}

fn target(random: &mut Random) -> Option<Object> {
    let tag = match random.below(8) {
        0 => random.next() & 0xffff,
        1 => 1,
        _ => 0,
    };
    let answer = (tag == 1 || rarely(random, 8)).then(|| {
        let steps = (0..random.below(3)).map(|_| vec![random.below(3) | random.below(9) << 16]);
        let steps = Object::Structs { pointers: 0, elements: steps.collect() };
        Object::Struct { data: vec![random.next()], pointers: vec![Some(steps)] }
    });
    let first = random.next() & 0xffff_ffff | tag << 32;
    (!rarely(random, 12)).then(|| object(random, first, vec![answer]))
}

fn payload(random: &mut Random) -> Option<Object> {
    let content = match random.below(4) {
        0 => None,
        1 => Some(Object::Capability(random.below(3))),
        2 => Some(Object::Bytes((0..random.below(5)).map(|_| random.next()).collect())),
        _ => Some(Object::Struct {
            data: vec![random.next()],
            pointers: vec![Some(Object::Capability(0)), None],
        }),
    };
    let table = match random.below(16) {
        0 => Some(Object::Bytes(vec![random.next()])),
        1 => {
            let (length, pointers) = (random.below(4), random.below(3) as usize);
            let descriptor = |_| {
                let tag = random.below(8) | random.below(3) << 16;
                let mut data = vec![tag | random.below(9) << 32, later_word(random)];
                data.truncate(length as usize);
                data.resize(length as usize, 0);
                data
            };
            Some(Object::Structs { pointers, elements: (0..2).map(descriptor).collect() })
        }
        2 => Some(Object::Structs { pointers: 1, elements: Vec::new() }),
        _ => None,
    };
    let first = later_word(random);
    (!rarely(random, 12)).then(|| object(random, first, vec![content, table]))
}

impl Segments {
    /// Puts an object and what it leads to somewhere, the one or the other first.
    fn place(&mut self, random: &mut Random, object: &Object) -> Place {
        let (fields, words, kind) = match object {
            Object::Struct { data, pointers } => {
                let size = (data.len() as u64) << 32 | (pointers.len() as u64) << 48;
                let mut words = data.clone();
                words.resize(data.len() + pointers.len(), 0);
                (Some((data.len(), pointers)), words, STRUCT | size)
            }
            Object::Bytes(words) => {
                (None, words.clone(), LIST | 2 << 32 | (8 * words.len() as u64) << 35)
            }
            Object::Structs { pointers, elements } => {
                let length = elements.first().map_or(0, Vec::len);
                let tag =
                    (elements.len() as u64) << 2 | (length as u64) << 32 | (*pointers as u64) << 48;
                let mut words = vec![tag];
                for element in elements {
                    words.extend(element);
                    words.resize(words.len() + pointers, 0);
                }
                let count = words.len() as u64 - 1;
                (None, words, LIST | 7 << 32 | count << 35)
            }
            Object::Capability(index) => {
                let kind = OTHER | index << 32;
                return Place { segment: 0, word: 0, is_empty: false, kind };
            }
        };
        let comes_first = rarely(random, 2);
        let mut at = comes_first.then(|| self.put(random, &words));
        let mut leads_to = Vec::new();
        if let Some((length, pointers)) = fields {
            let mut order: Vec<usize> = (0..pointers.len()).collect();
            if rarely(random, 2) {
                order.reverse();
            }
            for index in order {
                if let Some(object) = &pointers[index] {
                    leads_to.push((length + index, self.place(random, object)));
                }
            }
        }
        let (segment, word) = *at.get_or_insert_with(|| self.put(random, &words));
        for (index, place) in leads_to {
            self.point(random, (segment, word + index), &place);
        }
        Place { segment, word, is_empty: words.is_empty(), kind }
    }

    fn put(&mut self, random: &mut Random, words: &[u64]) -> (usize, usize) {
        let segment = random.below(self.words.len() as u64) as usize;
        let gap = if rarely(random, 4) { random.below(3) } else { 0 };
        let room = &mut self.words[segment];
        room.extend((0..gap).map(|_| 0));
        room.extend(words);
        (segment, room.len() - words.len())
    }

    /// Writes a pointer.
    fn point(&mut self, random: &mut Random, (segment, word): (usize, usize), place: &Place) {
        let near = |from: usize| {
            let offset = place.word as i64 - from as i64 - 1;
            place.kind | (offset as u64 & 0x3fff_ffff) << 2
        };
        let pointer = if place.kind & 3 == OTHER {
            place.kind
        } else if place.is_empty && place.kind & 3 == STRUCT && rarely(random, 2) {
            // To itself, or it would be null where it leads to the next word.
            place.kind | 0xffff_fffc
        } else if segment == place.segment && !rarely(random, 16) {
            if place.kind & 3 == STRUCT {
                self.near.push((segment, word));
            }
            near(word)
        } else if rarely(random, 4) {
            let pad = [FAR | (place.word as u64) << 3 | (place.segment as u64) << 32, place.kind];
            let (segment, word) = self.put(random, &pad);
            FAR | 4 | (word as u64) << 3 | (segment as u64) << 32
        } else {
            let pad = &mut self.words[place.segment];
            pad.push(near(pad.len()));
            FAR | (pad.len() as u64 - 1) << 3 | (place.segment as u64) << 32
        };
        self.words[segment][word] = pointer;
    }

    /// Does what no honest peer does.
    fn spoil(&mut self, random: &mut Random) {
        let segment = random.below(self.words.len() as u64) as usize;
        let length = self.words[segment].len() as u64;
        if length == 0 {
            return;
        }
        let any = random.below(length) as usize;
        let words = &mut self.words[segment];
        match random.below(8) {
            0 | 1 => words[any] ^= 1 << random.below(64),
            2 => words.truncate(any),
            3 => words[any] = words[random.below(length) as usize],
            // A struct nearby.
            4 => {
                let offset = random.below(9).wrapping_sub(4) & 0x3fff_ffff;
                words[any] = offset << 2 | random.below(4) << 32 | random.below(4) << 48;
            }
            // All structs reach to the end of their segment, or a little less far or beyond.
            5 => (0..self.near.len()).for_each(|index| self.stretch(random, index)),
            _ if self.near.is_empty() => {}
            _ => {
                let index = random.below(self.near.len() as u64) as usize;
                self.stretch(random, index);
            }
        }
    }

    /// Makes a struct longer. Its pointers are then at its end.
    fn stretch(&mut self, random: &mut Random, index: usize) {
        let (segment, word) = self.near[index];
        let words = &mut self.words[segment];
        let Some(pointer) = words.get(word).copied() else { return };
        let offset = i64::from(pointer as u32 as i32 >> 2);
        let start = word as i64 + 1 + offset;
        let pointers = if rarely(random, 2) { 0 } else { pointer >> 48 & 3 };
        let short_of = random.below(4) as i64 - 1;
        let data = words.len() as i64 - start - pointers as i64 - short_of;
        if let Ok(data) = u16::try_from(data) {
            words[word] = pointer & 0xffff_ffff | u64::from(data) << 32 | pointers << 48;
        }
    }

    fn frame(&self) -> Frame {
        let lengths: Vec<u32> =
            self.words.iter().map(|words| u32::try_from(words.len()).unwrap()).collect();
        let total = self.words.iter().map(Vec::len).sum();
        let mut own = Word::allocate_zeroed_vec(total);
        let bytes: Vec<u8> =
            self.words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        Word::words_to_bytes_mut(&mut own).copy_from_slice(&bytes);
        Frame::from_segments(own, &lengths).unwrap()
    }
}
