//! What is expected, and what it is compared with.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// What went wrong with a case, in one line.
pub type Outcome<T> = Result<T, String>;

/// What placeholders stand for in one case, and the signatures that have been
/// met and not yet checked.
#[derive(Default)]
pub struct Bindings {
    bound: BTreeMap<String, String>,
    pub signatures: Vec<Signature>,
}

/// A signature of a JWT, for the host under test to check.
pub struct Signature {
    pub jwk: String,
    pub algorithm: String,
    pub data: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Bindings {
    pub fn bind(&mut self, name: &str, text: impl Into<String>) {
        self.bound.insert(name.to_owned(), text.into());
    }

    pub fn get(&self, name: &str) -> Outcome<&str> {
        let text = self.bound.get(name).map(String::as_str);
        text.ok_or_else(|| format!("{name} is not bound"))
    }

    /// A text of the case with what its placeholders stand for.
    pub fn fill(&self, text: &str) -> Outcome<String> {
        let mut filled = String::new();
        for part in parts(text)? {
            match part {
                Part::Literal(literal) => filled.push_str(literal),
                Part::Name(name) => filled.push_str(self.get(name)?),
            }
        }
        Ok(filled)
    }

    /// The same in every text of a value.
    pub fn fill_all(&self, value: &Value) -> Outcome<Value> {
        Ok(match value {
            Value::String(text) => Value::String(self.fill(text)?),
            Value::Array(elements) => {
                let filled = elements.iter().map(|element| self.fill_all(element));
                Value::Array(filled.collect::<Outcome<_>>()?)
            }
            Value::Object(members) => {
                let filled = members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), self.fill_all(value)?)));
                Value::Object(filled.collect::<Outcome<_>>()?)
            }
            other => other.clone(),
        })
    }

    /// Compares what came with what is expected, and binds the placeholders
    /// that meet something for the first time. `at` says where it is.
    pub fn expect(&mut self, expected: &Value, found: Option<&Value>, at: &str) -> Outcome<()> {
        let found = found.unwrap_or(&Value::Null);
        let differs = || Err(format!("{at}: expected {expected}, found {found}"));
        match (expected, found) {
            (Value::String(pattern), Value::String(text)) => self
                .expect_text(pattern, text)
                .or_else(|why| differs().map_err(|text: String| format!("{text}{why}"))),
            (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
                let mut pairs = expected.iter().zip(found).enumerate();
                pairs.try_for_each(|(i, (expected, found))| {
                    self.expect(expected, Some(found), &format!("{at}[{i}]"))
                })
            }
            (Value::Object(members), _) if members.contains_key("from-now") => {
                from_now(members, found).ok_or(()).or_else(|()| differs())
            }
            (Value::Object(members), Value::String(token)) if members.contains_key("jwt") => {
                self.expect_jwt(&members["jwt"], token, at)
            }
            (Value::Object(expected), Value::Object(found)) => {
                let mut members = expected.iter();
                members.try_for_each(|(name, expected)| {
                    self.expect(expected, found.get(name), &format!("{at}.{name}"))
                })
            }
            (expected, found) if expected == found => Ok(()),
            _ => differs(),
        }
    }

    fn expect_text(&mut self, pattern: &str, text: &str) -> Outcome<()> {
        let parts = parts(pattern)?;
        let mut rest = text;
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let known = match part {
                Part::Literal(literal) => Some(literal.to_owned()),
                Part::Name(name) => self.bound.get(name).cloned(),
            };
            if let Some(known) = known {
                rest = rest.strip_prefix(known.as_str()).ok_or("")?;
                continue;
            }
            let Part::Name(name) = part else {
                continue;
            };
            let end = match parts.peek() {
                None => rest.len(),
                Some(Part::Literal(literal)) => rest.find(literal).ok_or("")?,
                Some(Part::Name(_)) => return Err(" (two placeholders side by side)".to_owned()),
            };
            if end == 0 {
                return Err(format!(" ({name} is empty)"));
            }
            self.bind(name, &rest[..end]);
            rest = &rest[end..];
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(String::new())
        }
    }

    fn expect_jwt(&mut self, expected: &Value, token: &str, at: &str) -> Outcome<()> {
        known(expected, &["header", "claims", "jwk"])?;
        let malformed = || format!("{at}: {token} is no signed JWT");
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let (data, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = data.split_once('.').ok_or_else(malformed)?;
        let parse =
            |part: &str| serde_json::from_slice::<Value>(&decode(part)?).map_err(|_| malformed());
        let (header, claims) = (parse(header)?, parse(claims)?);
        for (name, found) in [("header", &header), ("claims", &claims)] {
            if let Some(expected) = expected.get(name) {
                self.expect(expected, Some(found), &format!("{at}.{name}"))?;
            }
        }
        let jwk = expected.get("jwk").or(header.get("jwk"));
        self.signatures.push(Signature {
            jwk: jwk.ok_or_else(malformed)?.to_string(),
            algorithm: text(&header, "alg")?.to_owned(),
            data: data.as_bytes().to_vec(),
            signature: decode(signature)?,
        });
        Ok(())
    }
}

enum Part<'a> {
    Literal(&'a str),
    Name(&'a str),
}

fn parts(text: &str) -> Outcome<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, behind)) = rest.split_once("{{") {
        let (name, behind) = behind
            .split_once("}}")
            .ok_or_else(|| format!("a placeholder in `{text}` does not end"))?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        parts.push(Part::Name(name));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Ok(parts)
}

fn from_now(expected: &Map<String, Value>, found: &Value) -> Option<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let difference = found.as_u64()?.checked_signed_diff(now)?;
    let (least, most) = (&expected["from-now"][0], &expected["from-now"][1]);
    (least.as_i64()? <= difference && difference <= most.as_i64()?).then_some(())
}

/// Fails on a member that the runner does not know: what it stands for would
/// seem proven.
pub fn known(object: &Value, names: &[&str]) -> Outcome<()> {
    let members = object
        .as_object()
        .ok_or_else(|| format!("{object} is no object"))?;
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => Err(format!("`{unknown}` is not known here")),
        None => Ok(()),
    }
}

/// A text member that has to be there.
pub fn text<'a>(object: &'a Value, name: &str) -> Outcome<&'a str> {
    let member = object.get(name).and_then(Value::as_str);
    member.ok_or_else(|| format!("`{name}` is missing in {object}"))
}

/// The elements of an array; none where it is not there.
pub fn elements<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
