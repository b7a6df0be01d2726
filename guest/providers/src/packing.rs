//! The packed form of the catalogue: texts in which what recurs is written once.
//!
//! A text is a sequence of symbols; a symbol stands for one byte or for two
//! other symbols (Larsson and Moffat, Offline Dictionary-Based Compression,
//! 1999). Any text is unpacked without the others, by a dozen lines of code.
//!
//! The form: two bytes count the symbols; three bytes for each, the first twelve
//! bits and the last twelve being the symbols it stands for, or `0xFFF` and the
//! byte; then the texts, each after its length in two bytes. All numbers are
//! little-endian. A symbol below `0xD0` is written in one byte, another in two.

/// The first byte of a symbol that takes two.
const TWO_BYTES: u16 = 0xD0;

/// In place of a first symbol: the second is a byte.
const IS_BYTE: u16 = 0xFFF;

/// Packed texts.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    symbols: &'a [u8],
    texts: &'a [u8],
}

/// One of the texts, still packed.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    symbols: &'a [u8],
    content: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Reads the packed form. What is malformed has fewer texts, or shorter ones.
    pub fn new(bytes: &'a [u8]) -> Self {
        let (count, rest) = number(bytes).unwrap_or_default();
        let (symbols, texts) = rest.split_at_checked(count * 3).unwrap_or_default();
        Self { symbols, texts }
    }

    /// The texts, in order.
    pub fn texts(&self) -> impl Iterator<Item = Text<'a>> + use<'a> {
        let symbols = self.symbols;
        let mut rest = self.texts;
        std::iter::from_fn(move || {
            let (length, after) = number(rest)?;
            let (content, after) = after.split_at_checked(length)?;
            rest = after;
            Some(Text { symbols, content })
        })
    }
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_le_bytes(*number)), rest))
}

impl Text<'_> {
    /// The text, whole.
    pub fn unpack(&self) -> String {
        let mut bytes = Vec::new();
        self.walk(&mut |byte| {
            bytes.push(byte);
            true
        });
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Whether the text begins with that, found out by unpacking no more of it.
    pub fn starts_with(&self, start: &str) -> bool {
        let mut wanted = start.bytes();
        let mut next = wanted.next();
        self.walk(&mut |byte| {
            if next != Some(byte) {
                return false;
            }
            next = wanted.next();
            next.is_some()
        });
        next.is_none()
    }

    /// Gives one byte after the other for as long as more are wanted.
    fn walk(&self, take: &mut dyn FnMut(u8) -> bool) {
        let mut content = self.content.iter().map(|byte| u16::from(*byte));
        while let Some(first) = content.next() {
            let symbol = match first.checked_sub(TWO_BYTES) {
                None => first,
                Some(high) => TWO_BYTES + high * 256 + content.next().unwrap_or_default(),
            };
            // A rule refers to earlier ones, so this is deeper than any chain
            // of them.
            if !self.expand(symbol, self.symbols.len(), take) {
                return;
            }
        }
    }

    fn expand(&self, symbol: u16, depth: usize, take: &mut dyn FnMut(u8) -> bool) -> bool {
        let at = usize::from(symbol) * 3;
        let Some(&[a, b, c]) = self.symbols.get(at..at + 3) else {
            return false;
        };
        let first = u16::from(a) | u16::from(b & 15) << 8;
        let second = u16::from(b >> 4) | u16::from(c) << 4;
        if first == IS_BYTE {
            return take(second as u8);
        }
        let Some(depth) = depth.checked_sub(1) else {
            return false;
        };
        self.expand(first, depth, take) && self.expand(second, depth, take)
    }
}

/// Packs texts.
///
/// # Errors
/// A text is too long once packed, or contains a byte 0.
#[cfg(feature = "compiler")]
pub fn pack(texts: &[String]) -> Result<Vec<u8>, String> {
    use std::collections::HashMap;

    /// The most symbols that two bytes can tell.
    const MOST: usize = TWO_BYTES as usize + (0x100 - TWO_BYTES as usize) * 256;
    /// What is replaced less often than this saves no more than its rule costs.
    const RECURS: usize = 4;
    const END: u16 = 0;

    // One sequence, in which no rule crosses the end of a text.
    let mut sequence: Vec<u16> = Vec::new();
    for text in texts {
        if text.bytes().any(|byte| byte == 0) {
            return Err("a text contains a byte 0".to_owned());
        }
        sequence.extend(text.bytes().map(u16::from));
        sequence.push(END);
    }
    // Symbols below 256 are bytes here; rule n is the symbol 256 + n.
    let mut rules: Vec<(u16, u16)> = Vec::new();
    while rules.len() + 256 < MOST.min(usize::from(IS_BYTE)) {
        let mut counts: HashMap<(u16, u16), usize> = HashMap::new();
        let mut last = None;
        for pair in sequence.windows(2) {
            let pair = (pair[0], pair[1]);
            // In a run of one symbol the pairs overlap.
            let overlaps = last == Some(pair) && pair.0 == pair.1;
            last = (!overlaps).then_some(pair);
            if pair.0 != END && pair.1 != END && !overlaps {
                *counts.entry(pair).or_default() += 1;
            }
        }
        // The most frequent ones, at once as far as none takes from another:
        // nearly as short as one by one, in a fraction of the time. Those that
        // are equally frequent go by their symbols, so that each build is the
        // same.
        let mut frequent: Vec<_> = counts
            .into_iter()
            .filter(|(_, count)| *count >= RECURS)
            .collect();
        frequent.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
        let Some((_, most)) = frequent.first().copied() else {
            break;
        };
        let mut replaced: HashMap<(u16, u16), u16> = HashMap::new();
        let mut is_taken = vec![false; 256 + rules.len()];
        for (pair, count) in frequent {
            let (first, second) = (usize::from(pair.0), usize::from(pair.1));
            if count * 8 < most * 7 || rules.len() + 256 >= MOST.min(usize::from(IS_BYTE)) {
                break;
            }
            if !is_taken[first] && !is_taken[second] {
                is_taken[first] = true;
                is_taken[second] = true;
                replaced.insert(pair, 256 + rules.len() as u16);
                rules.push(pair);
            }
        }
        let mut shorter = Vec::with_capacity(sequence.len());
        let mut at = 0;
        while let Some(first) = sequence.get(at) {
            let pair = sequence.get(at + 1).map(|second| (*first, *second));
            let symbol = pair.filter(|_| is_taken.get(usize::from(*first)) == Some(&true));
            match symbol.and_then(|pair| replaced.get(&pair)) {
                Some(symbol) => {
                    shorter.push(*symbol);
                    at += 2;
                }
                None => {
                    shorter.push(*first);
                    at += 1;
                }
            }
        }
        sequence = shorter;
    }
    // The symbols that are written most often are the shortest.
    let mut written: HashMap<u16, usize> = HashMap::new();
    for symbol in sequence.iter().filter(|symbol| **symbol != END) {
        *written.entry(*symbol).or_default() += 1;
    }
    let mut is_used: Vec<bool> = (0..256 + rules.len() as u16)
        .map(|symbol| written.contains_key(&symbol))
        .collect();
    for (rule, (first, second)) in rules.iter().enumerate().rev() {
        if is_used[256 + rule] {
            is_used[usize::from(*first)] = true;
            is_used[usize::from(*second)] = true;
        }
    }
    let mut order: Vec<u16> = (0..is_used.len() as u16)
        .filter(|symbol| is_used[usize::from(*symbol)])
        .collect();
    order.sort_by_key(|symbol| std::cmp::Reverse(written.get(symbol).copied().unwrap_or(0)));
    let mut place = vec![0; is_used.len()];
    for (at, symbol) in order.iter().enumerate() {
        place[usize::from(*symbol)] = at as u16;
    }
    let mut packed = (order.len() as u16).to_le_bytes().to_vec();
    for symbol in &order {
        let (first, second) = match usize::from(*symbol).checked_sub(256) {
            None => (IS_BYTE, *symbol),
            Some(rule) => {
                let (first, second) = rules[rule];
                (place[usize::from(first)], place[usize::from(second)])
            }
        };
        packed.push(first as u8);
        packed.push((first >> 8) as u8 | (second << 4) as u8);
        packed.push((second >> 4) as u8);
    }
    for text in sequence.split(|symbol| *symbol == END).take(texts.len()) {
        let mut content = Vec::new();
        for symbol in text {
            let symbol = place[usize::from(*symbol)];
            match symbol.checked_sub(TWO_BYTES) {
                None => content.push(symbol as u8),
                Some(above) => content.extend([(TWO_BYTES + above / 256) as u8, above as u8]),
            }
        }
        let length = u16::try_from(content.len()).map_err(|_| "a text is too long")?;
        packed.extend(length.to_le_bytes());
        packed.extend(content);
    }
    Ok(packed)
}

#[cfg(all(test, feature = "compiler"))]
mod tests {
    use super::*;

    fn unpacked(bytes: &[u8]) -> Vec<String> {
        let texts = Packed::new(bytes).texts();
        texts.map(|text| text.unpack()).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked_the_same() {
        let texts: Vec<String> = ["", "a", "aaaaaaaaaaaaaaa", "https://a.example/token", "é\n"]
            .iter()
            .map(|&text| text.to_owned())
            .chain((0..3000).map(|number| format!("https://{number}.example/{}/token", number % 7)))
            .collect();
        let packed = pack(&texts).expect("packed");
        assert_eq!(unpacked(&packed), texts);
        let plain: usize = texts.iter().map(String::len).sum();
        assert!(packed.len() * 2 < plain, "{} of {plain}", packed.len());
    }

    #[test]
    fn the_start_of_a_text_is_known_without_the_rest() {
        let packed = pack(&["google\nGoogle".to_owned()]).expect("packed");
        let text = Packed::new(&packed).texts().next().expect("a text");
        for (start, is_it) in [
            ("google\n", true),
            ("goog", true),
            ("", true),
            ("google\nGoogles", false),
            ("x", false),
        ] {
            assert_eq!(text.starts_with(start), is_it, "{start}");
        }
    }

    #[test]
    fn packing_twice_gives_the_same() {
        let texts = vec![
            "abcabcabcabcxyxyxyxy".to_owned(),
            "abxyabxyabxyabxy".to_owned(),
        ];
        assert_eq!(pack(&texts), pack(&texts));
    }

    #[test]
    fn nothing_panics_on_what_was_not_packed() {
        let mut noise = 1u32;
        for length in 0..600 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8
                })
                .collect();
            for text in Packed::new(&bytes).texts() {
                text.starts_with("x");
            }
        }
        // A symbol that stands for itself.
        let endless = [1, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(unpacked(&endless), [""]);
    }
}
