//! Which words a block of lines has, in little room: a Bloom filter.
//!
//! B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, 1970; the probes are made of two hashes, as in
//! A. Kirsch and M. Mitzenmacher, Less hashing, same performance, 2006.

use paas_core::model::{is_word, unescaped};

/// How many bits each word sets.
const PROBES: u32 = 6;
/// At least so many bits there are for each word.
const BITS: usize = 10;
/// The smallest and the largest filter, as powers of two of bits. A larger block just has more words found in it in error.
const SMALLEST: u32 = 6;
const LARGEST: u32 = 20;

/// The hash of a word in lower case: FNV-1a of 64 bits, whose bits are then mixed as MurmurHash3 does at its end.
pub(super) fn hash(word: &[u8]) -> u64 {
    finish(word.iter().fold(BASIS, |hash, byte| step(hash, *byte)))
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

const fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

/// Never 0.
const fn finish(hash: u64) -> u64 {
    let mixed = mixed(hash);
    if mixed == 0 { 1 } else { mixed }
}

const fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// The bits of a word in a filter of so many bits, as a power of two.
pub(super) fn probes(hash: u64, power: u32) -> impl Iterator<Item = usize> {
    let (mut at, step, mask) = (hash as u32, (hash >> 32) as u32 | 1, (1_u32 << power) - 1);
    (0..PROBES).map(move |_| {
        let probe = at & mask;
        at = at.wrapping_add(step);
        probe as usize
    })
}

/// What a byte is in a word: itself, in lower case; 0 where it is in none.
const LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    let mut byte = 1;
    while byte < 256 {
        if is_word(byte as u8) {
            letters[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    letters
};

/// The words of a block, each once. It keeps its room from block to block.
#[derive(Debug)]
pub(super) struct WordSet {
    /// Open addressing; 0 is a free place.
    places: Vec<u64>,
    count: usize,
}

impl Default for WordSet {
    fn default() -> Self {
        Self { places: vec![0; 1 << 12], count: 0 }
    }
}

impl WordSet {
    pub(super) fn clear(&mut self) {
        self.places.fill(0);
        self.count = 0;
    }

    /// Takes in the words of a line, as it stands and without escapes.
    pub(super) fn add_line(&mut self, line: &[u8]) {
        self.add_text(line);
        if memchr::memchr(b'\\', line).is_some() {
            self.add_text(&unescaped(line));
        }
    }

    fn add_text(&mut self, text: &[u8]) {
        let mut hash = BASIS;
        for byte in text {
            let letter = LETTERS[usize::from(*byte)];
            if letter != 0 {
                hash = step(hash, letter);
            } else if hash != BASIS {
                self.add(finish(hash));
                hash = BASIS;
            }
        }
        if hash != BASIS {
            self.add(finish(hash));
        }
    }

    /// The hashes of all words, in no order.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.places.iter().copied().filter(|hash| *hash != 0)
    }

    fn add(&mut self, hash: u64) {
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        while self.places[at] != hash {
            if self.places[at] == 0 {
                self.places[at] = hash;
                self.count += 1;
                if self.count * 2 > self.places.len() {
                    self.grow();
                }
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let larger = vec![0; self.places.len() * 2];
        let old = std::mem::replace(&mut self.places, larger);
        self.count = 0;
        old.into_iter().filter(|hash| *hash != 0).for_each(|hash| self.add(hash));
    }

    pub(super) fn filter(&self) -> Filter {
        let bits = (self.count * BITS).next_power_of_two();
        let power = bits.trailing_zeros().clamp(SMALLEST, LARGEST);
        let mut bytes = vec![0; 1 << (power - 3)];
        for hash in self.hashes() {
            probes(hash, power).for_each(|probe| bytes[probe / 8] |= 1 << (probe % 8));
        }
        Filter { power, bytes }
    }
}

/// The words of a block, some of which it does not have. It has a power of two of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    power: u32,
    bytes: Vec<u8>,
}

impl Filter {
    /// Reads one: its bits, the lowest of a byte first.
    pub(super) fn of(bytes: Vec<u8>) -> Option<Self> {
        let power = (bytes.len() * 8).trailing_zeros();
        let is_one = bytes.len().is_power_of_two() && (SMALLEST..=LARGEST).contains(&power);
        is_one.then_some(Self { power, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn power(&self) -> u32 {
        self.power
    }

    /// Whether the block may have a word of this hash.
    #[cfg(test)]
    fn has(&self, hash: u64) -> bool {
        probes(hash, self.power).all(|probe| self.is_set(probe))
    }

    /// The bits that are set in the filter as it is with more bits, each as often as it is larger.
    pub(super) fn set(&self, power: u32) -> impl Iterator<Item = usize> {
        let larger = 0..1 << (power - self.power);
        larger.flat_map(move |part| ones(&self.bytes).map(move |probe| (part << self.power) + probe))
    }

    /// A bit of the filter as it is with more bits: a probe of the larger one is one of the smaller one, without its high bits.
    pub(super) fn is_set(&self, probe: usize) -> bool {
        let probe = probe & ((1 << self.power) - 1);
        self.bytes[probe / 8] & 1 << (probe % 8) != 0
    }
}

/// The bits that are set, the lowest of a byte first.
fn ones(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().flat_map(|(at, byte)| {
        let mut left = *byte;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(at * 8 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(lines: &[&str]) -> Filter {
        let mut words = WordSet::default();
        lines.iter().for_each(|line| words.add_line(line.as_bytes()));
        words.filter()
    }

    #[test]
    fn the_words_of_lines_are_found_in_any_case_and_without_escapes() {
        let filter = filter(&["An ERROR of user_7", r#"{"text":"first\nsecond"}"#]);
        for word in ["an", "error", "user_7", "nsecond", "second"] {
            assert!(filter.has(hash(word.as_bytes())), "{word}");
        }
        assert!(!filter.has(hash(b"err")) && !filter.has(hash(b"user")));
    }

    #[test]
    fn hashes_are_those_of_the_format() {
        // The vectors of FNV-1a, before they are mixed.
        assert_eq!(b"a".iter().fold(BASIS, |hash, byte| step(hash, *byte)), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(b"foobar".iter().fold(BASIS, |hash, byte| step(hash, *byte)), 0x8594_4171_f739_67e8);
        assert_eq!(mixed(1), 0xb456_bcfc_34c2_cb2c);
    }

    #[test]
    fn few_words_are_found_in_error() {
        let lines: Vec<String> = (0..5_000).map(|number| format!("w{number}")).collect();
        let filter = filter(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let wrong = (0..100_000).filter(|number| filter.has(hash(format!("x{number}").as_bytes()))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
    }

    proptest! {
        #[test]
        fn every_word_is_found_in_a_filter_of_any_size(words in prop::collection::vec("[a-z0-9]{1,12}", 1..200), more in 0_u32..4) {
            let filter = filter(&words.iter().map(String::as_str).collect::<Vec<_>>());
            for word in &words {
                let hash = hash(word.as_bytes());
                prop_assert!(filter.has(hash));
                prop_assert!(probes(hash, filter.power() + more).all(|probe| filter.is_set(probe)));
            }
            let power = filter.power() + more;
            let all: Vec<usize> = (0..1 << power).filter(|probe| filter.is_set(*probe)).collect();
            prop_assert_eq!(filter.set(power).collect::<Vec<_>>(), all);
        }
    }
}
