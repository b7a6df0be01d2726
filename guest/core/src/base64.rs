//! Bytes as text (RFC 4648). Written out here: the crate for it is five kilobytes
//! of the component.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 with padding (RFC 4648 section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = encode(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Base64url without padding (RFC 7515 section 2).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    encode(bytes, URL_SAFE)
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    // Long enough at once, so that no secret is left behind in a shorter copy.
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let [first, second, third] = group.map(usize::from);
        let bits = first << 16 | second << 8 | third;
        for place in 0..=chunk.len() {
            let character = alphabet[bits >> (18 - 6 * place) & 63];
            text.push(char::from(character));
        }
    }
    text
}

/// Reads base64url without padding; `None` where it is something else. Bits that
/// belong to no byte must be zero, so that there is one way to write each value.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = URL_SAFE.iter().position(|other| *other == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_that_of_rfc_4648() {
        // RFC 4648 section 10.
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
            let url_safe = encoded.trim_end_matches('=');
            assert_eq!(base64url(plain.as_bytes()), url_safe);
            assert_eq!(from_base64url(url_safe), Some(plain.as_bytes().to_vec()));
        }
    }

    #[test]
    fn the_two_alphabets_differ_in_two_characters() {
        // RFC 7515 appendix C.
        assert_eq!(base64url(&[3, 236, 255, 224, 193]), "A-z_4ME");
        assert_eq!(base64(&[3, 236, 255, 224, 193]), "A+z/4ME=");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for end in 0..all.len() {
            let part = &all[end / 2..end];
            assert_eq!(from_base64url(&base64url(part)).as_deref(), Some(part));
        }
    }

    #[test]
    fn what_is_no_base64url_is_not_read() {
        for text in [
            "A", "AAAAA", "A+z/4ME", "Zg==", "Zh", "Zm9vYmF", "Z g", "Z\ng", "é",
        ] {
            assert_eq!(from_base64url(text), None, "{text}");
        }
    }
}
