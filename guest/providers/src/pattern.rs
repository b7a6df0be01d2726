//! What the value of a provider's parameter may be: the few regular expressions
//! that such values take, and no more, so that the component need not carry an
//! engine for the others.
//!
//! A pattern is a sequence of parts: a character, or a class such as
//! `[A-Za-z0-9-]`; either may be followed by `{count}` or `{least,most}`. It
//! matches a text in full. Every pattern means the same as a regular expression.

/// One part of a pattern: which characters, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part<'a> {
    /// A class without its brackets, or the one character itself.
    class: &'a [u8],
    least: usize,
    most: usize,
}

/// Whether a text matches a pattern in full. Nothing matches what is no pattern.
pub fn matches(pattern: &str, text: &str) -> bool {
    matches_from(pattern.as_bytes(), text.as_bytes())
}

fn matches_from(pattern: &[u8], text: &[u8]) -> bool {
    if pattern.is_empty() {
        return text.is_empty();
    }
    let Some((part, rest)) = next_part(pattern) else {
        return false;
    };
    let fits = text.iter().take(part.most);
    let fits = fits.take_while(|byte| contains(part.class, **byte)).count();
    // The longest first, as a regular expression does; patterns are ours and
    // short, so trying the others costs nothing worth saving.
    (part.least..=fits).rev().any(|count| {
        text.get(count..)
            .is_some_and(|text| matches_from(rest, text))
    })
}

/// Whether a class has a character: it names it, or a range around it.
fn contains(class: &[u8], byte: u8) -> bool {
    let mut class = class;
    loop {
        class = match class {
            [first, b'-', last, rest @ ..] => {
                if (*first..=*last).contains(&byte) {
                    return true;
                }
                rest
            }
            [one, rest @ ..] => {
                if *one == byte {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

fn next_part(pattern: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (class, rest) = match pattern {
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            (&rest[..end], &rest[end + 1..])
        }
        [_, rest @ ..] => (&pattern[..1], rest),
        [] => return None,
    };
    let Some(counted) = rest.strip_prefix(b"{") else {
        let part = Part {
            class,
            least: 1,
            most: 1,
        };
        return Some((part, rest));
    };
    let end = counted.iter().position(|byte| *byte == b'}')?;
    let counts = std::str::from_utf8(&counted[..end]).ok()?;
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let part = Part {
        class,
        least: least.parse().ok()?,
        most: most.parse().ok()?,
    };
    Some((part, &counted[end + 1..]))
}

/// What is wrong with a pattern, as the second half of a sentence.
///
/// # Errors
/// That.
#[cfg(feature = "compiler")]
pub fn check(pattern: &str) -> Result<(), String> {
    let mut rest = pattern.as_bytes();
    if rest.is_empty() {
        return Err("is empty".to_owned());
    }
    while !rest.is_empty() {
        let (part, after) = next_part(rest).ok_or("is broken off or counts no number")?;
        if part.class.is_empty() || part.class[0] == b'^' {
            return Err("has a class that is empty or negated".to_owned());
        }
        if part.least > part.most || part.most > 2048 {
            return Err("has counts that are out of order or above 2048".to_owned());
        }
        let is_class = rest[0] == b'[';
        // Outside a class these would mean something else to an engine.
        if !is_class && !part.class[0].is_ascii_alphanumeric() && !b"-_ :/".contains(&part.class[0])
        {
            return Err(format!("has {} outside a class", char::from(part.class[0])));
        }
        if is_class && part.class.iter().any(|byte| b"[\\".contains(byte)) {
            return Err("has [ or \\ in a class".to_owned());
        }
        rest = after;
    }
    Ok(())
}

/// The characters that a text matching the pattern can contain, and those that
/// it can begin with.
#[cfg(feature = "compiler")]
pub fn alphabet(pattern: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut all, mut first) = (Vec::new(), Vec::new());
    let mut rest = pattern.as_bytes();
    let mut may_begin = true;
    while let Some((part, after)) = next_part(rest) {
        let class: Vec<u8> = (0..=127)
            .filter(|byte| contains(part.class, *byte))
            .collect();
        if may_begin {
            first.extend(&class);
        }
        may_begin &= part.least == 0;
        all.extend(class);
        rest = after;
    }
    (all, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_matches_in_full_or_not_at_all() {
        for (pattern, text, fits) in [
            ("[a-z0-9-]{1,5}", "ab-1", true),
            ("[a-z0-9-]{1,5}", "", false),
            ("[a-z0-9-]{1,5}", "abcdef", false),
            ("[a-z0-9-]{1,5}", "ab/1", false),
            ("[a-z0-9-]{1,5}", "ab\n", false),
            ("[A-Za-z0-9][A-Za-z0-9.-]{0,9}", "contoso.com", false),
            ("[A-Za-z0-9][A-Za-z0-9.-]{0,10}", "contoso.com", true),
            ("[A-Za-z0-9][A-Za-z0-9.-]{0,10}", "..", false),
            ("v[0-9]{1,2}", "v21", true),
            ("v[0-9]{1,2}", "21", false),
            ("[ab]{0,3}b", "abb", true),
            ("[0-9a-f]{8}-[0-9a-f]{4}", "00ff00ff-0a0b", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_matches_nothing_and_panics_nowhere() {
        for pattern in [
            "[",
            "[a",
            "a{",
            "a{x}",
            "a{1,",
            "a{2,1}",
            "a{99999999999999999999}",
        ] {
            assert!(!matches(pattern, "a"), "{pattern}");
            assert!(!matches(pattern, ""), "{pattern}");
        }
    }

    #[cfg(feature = "compiler")]
    #[test]
    fn a_pattern_outside_the_subset_is_told() {
        for pattern in [
            "", "a*", "a+", "(a|b)", ".", "[^a]", "[]", "\\d", "[a{2}", "[a]{3,2}",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        assert_eq!(check("[A-Za-z0-9][A-Za-z0-9.-]{0,10}"), Ok(()));
    }

    #[cfg(feature = "compiler")]
    #[test]
    fn the_alphabet_of_a_pattern_tells_what_it_can_begin_with() {
        let (all, first) = alphabet("[0-9]{0,1}[a-b.]x");
        assert_eq!(all, b"0123456789.abx");
        assert_eq!(first, b"0123456789.ab");
    }
}
