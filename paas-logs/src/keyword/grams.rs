//! Finds whole words, of which there are many.
//!
//! Every few bytes a look is taken at four of them, without regard to case: whether any word has these where one of the looks
//! at it comes. That is known from a table of bits which fits into the processor's nearest memory; only where it says yes
//! the word that stands there is looked up.

use std::collections::HashMap;

use paas_core::model::is_word;

/// So many bytes are looked at.
const GRAM: usize = 4;
/// The table has 2^18 bits, 32 KiB: with half of them a thousand words have looks in vain that cost more than nearer bits save.
const BITS: usize = 18;
/// The longest words that are found.
const LONGEST: usize = 63;
/// So many looks are taken before any of them is acted on.
const LOOKS: usize = 8;

/// Words in lower case, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Grams {
    bits: Box<[u64; 1 << (BITS - 6)]>,
    /// From one look to the next: so that at each word at least one comes.
    step: usize,
    /// Which lengths there are, a bit each.
    lengths: u64,
    words: HashMap<Box<[u8]>, usize>,
}

/// The place of four bytes in the table; those that differ in case have the same.
fn place(gram: [u8; GRAM]) -> usize {
    let folded = u32::from_le_bytes(gram) | 0x2020_2020;
    (folded.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

impl Grams {
    /// Whether a word can be among these.
    pub(super) fn takes(word: &[u8]) -> bool {
        (GRAM..=LONGEST).contains(&word.len()) && word.iter().all(|byte| is_word(*byte))
    }

    pub(super) fn new(words: Vec<Box<[u8]>>) -> Self {
        let least = words.iter().map(|word| word.len()).min().unwrap_or(GRAM);
        let step = (least + 1 - GRAM).min(4);
        let mut bits = Box::new([0; 1 << (BITS - 6)]);
        for gram in words.iter().flat_map(|word| word.array_windows().take(step)) {
            let place = place(*gram);
            bits[place / 64] |= 1 << (place % 64);
        }
        let lengths = words.iter().fold(0, |lengths, word| lengths | 1 << word.len());
        Self { bits, step, lengths, words: words.into_iter().zip(0..).collect() }
    }

    /// Calls `each` with where a word begins and its number, in the order in which they stand.
    pub(super) fn find(&self, text: &[u8], each: impl FnMut(usize, usize)) {
        match self.step {
            1 => self.scan::<1>(text, each),
            2 => self.scan::<2>(text, each),
            3 => self.scan::<3>(text, each),
            _ => self.scan::<4>(text, each),
        }
    }

    fn scan<const STEP: usize>(&self, text: &[u8], mut each: impl FnMut(usize, usize)) {
        let mut at = 0;
        // All looks of a turn are taken before the first is acted on, so that none waits for another.
        while let Some(near) = text.get(at..at + (LOOKS - 1) * STEP + GRAM) {
            let mut hits = 0;
            for look in 0..LOOKS {
                let from = look * STEP;
                hits |= self.has([near[from], near[from + 1], near[from + 2], near[from + 3]]) << look;
            }
            while hits != 0 {
                let look = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                if let Some((start, word)) = self.word(text, at + look * STEP) {
                    each(start, word);
                }
            }
            at += LOOKS * STEP;
        }
        while let Some(gram) = text.get(at..).and_then(<[u8]>::first_chunk) {
            if self.has(*gram) == 1
                && let Some((start, word)) = self.word(text, at)
            {
                each(start, word);
            }
            at += STEP;
        }
    }

    fn has(&self, gram: [u8; GRAM]) -> u64 {
        let place = place(gram);
        self.bits[place / 64] >> (place % 64) & 1
    }

    /// The word around a place, if it is one of these and this is its first look.
    fn word(&self, text: &[u8], at: usize) -> Option<(usize, usize)> {
        let before = text[..at].iter().rev().take(self.step).take_while(|byte| is_word(**byte)).count();
        let start = at - before;
        let length = text[start..].iter().take(LONGEST + 1).take_while(|byte| is_word(**byte)).count();
        if before == self.step || length > LONGEST || self.lengths >> length & 1 == 0 {
            return None;
        }
        let mut word = [0; LONGEST];
        word[..length].copy_from_slice(&text[start..start + length]);
        word[..length].make_ascii_lowercase();
        self.words.get(&word[..length]).map(|number| (start, *number))
    }
}
