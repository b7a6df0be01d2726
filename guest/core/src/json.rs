//! JSON as values, and the few shapes that are stored as it.
//!
//! Nothing is derived here: the component pays for a derived reader of every
//! type in kilobytes, and for this one in bytes.

use crate::secret::SecretString;
use crate::time::Timestamp;
use serde_json::{Map, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// Reads a JSON value.
///
/// # Errors
/// What is wrong with it and where; never what it contains.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it breaks off",
            _ => "it is malformed",
        };
        format!("{what} at line {}, column {}", error.line(), error.column())
    })
}

/// Writes a JSON value. `Value`'s own way of being displayed would bring a
/// second writer into the component.
pub fn text(value: &Value) -> String {
    // Writing a value to memory does not fail: its keys are strings.
    serde_json::to_string(value).unwrap_or_default()
}

/// Reads a JSON object.
///
/// # Errors
/// As [`parse`]; or that it is something else.
pub fn parse_object(bytes: &[u8]) -> Result<Object, String> {
    match parse(bytes)? {
        Value::Object(object) => Ok(object),
        _ => Err("it is not an object".to_owned()),
    }
}

/// What can be stored as JSON. Reading is forgiving: what an earlier version did
/// not write is absent, and what a later one adds is left alone.
pub(crate) trait Stored: Sized {
    /// The value as JSON.
    fn store(&self) -> Value;

    /// The value read back; `None` where the JSON is of another shape.
    fn restore(value: &Value) -> Option<Self>;
}

impl Stored for bool {
    fn store(&self) -> Value {
        Value::Bool(*self)
    }
    fn restore(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(false),
            other => other.as_bool(),
        }
    }
}

impl Stored for u64 {
    fn store(&self) -> Value {
        Value::from(*self)
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Stored for i64 {
    fn store(&self) -> Value {
        Value::from(*self)
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Stored for u32 {
    fn store(&self) -> Value {
        Value::from(*self)
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_u64().and_then(|number| number.try_into().ok())
    }
}

impl Stored for u16 {
    fn store(&self) -> Value {
        Value::from(*self)
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_u64().and_then(|number| number.try_into().ok())
    }
}

impl Stored for String {
    fn store(&self) -> Value {
        Value::from(self.as_str())
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Stored for SecretString {
    fn store(&self) -> Value {
        Value::from(self.reveal())
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_str().map(Self::new)
    }
}

impl Stored for Timestamp {
    fn store(&self) -> Value {
        self.0.store()
    }
    fn restore(value: &Value) -> Option<Self> {
        value.as_u64().map(Self)
    }
}

impl<T: Stored> Stored for Option<T> {
    fn store(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::store)
    }
    fn restore(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::restore(other).map(Some),
        }
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn store(&self) -> Value {
        Value::Array(self.iter().map(T::store).collect())
    }
    fn restore(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Vec::new()),
            Value::Array(values) => values.iter().map(T::restore).collect(),
            _ => None,
        }
    }
}

impl Stored for (String, String) {
    fn store(&self) -> Value {
        Value::Array(vec![self.0.store(), self.1.store()])
    }
    fn restore(value: &Value) -> Option<Self> {
        match value.as_array()?.as_slice() {
            [name, value] => Some((String::restore(name)?, String::restore(value)?)),
            _ => None,
        }
    }
}

/// Stores a struct as an object of its fields; a field that is absent is read
/// as `null`.
macro_rules! stored_fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::json::Stored for $name {
            fn store(&self) -> serde_json::Value {
                let mut object = $crate::json::Object::new();
                $($crate::json::put(&mut object, stringify!($field), self.$field.store());)*
                serde_json::Value::Object(object)
            }
            fn restore(value: &serde_json::Value) -> Option<Self> {
                let object = value.as_object()?;
                Some(Self {
                    $($field: $crate::json::Stored::restore(
                        $crate::json::field(object, stringify!($field)),
                    )?,)*
                })
            }
        }
    };
}

/// Stores an enum without payload by the name of the case.
macro_rules! stored_cases {
    ($name:ident { $($case:ident = $text:literal),* $(,)? }) => {
        impl $name {
            /// The name of the case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$case => $text,)* }
            }
        }
        impl $crate::json::Stored for $name {
            fn store(&self) -> serde_json::Value {
                serde_json::Value::from(self.as_str())
            }
            fn restore(value: &serde_json::Value) -> Option<Self> {
                match value.as_str()? {
                    $($text => Some(Self::$case),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {stored_cases, stored_fields};

/// Puts a field, unless it is absent.
pub(crate) fn put(object: &mut Object, name: &str, value: Value) {
    if !value.is_null() {
        object.insert(name.to_owned(), value);
    }
}

/// A field, `null` where it is absent.
pub(crate) fn field<'a>(object: &'a Object, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_the_place_and_not_the_content() {
        let told = parse(b"{\"password\": hunter2}").expect_err("malformed");
        assert!(
            told.starts_with("it is malformed at line 1, column"),
            "{told}"
        );
        assert!(!told.contains("hunter2"));
        assert!(
            parse(b"{\"a\":")
                .expect_err("cut")
                .starts_with("it breaks off")
        );
        assert_eq!(parse_object(b"[]"), Err("it is not an object".to_owned()));
    }

    #[test]
    fn what_is_absent_is_none_empty_or_false() {
        assert_eq!(Option::<String>::restore(&Value::Null), Some(None));
        assert_eq!(Vec::<u64>::restore(&Value::Null), Some(Vec::new()));
        assert_eq!(bool::restore(&Value::Null), Some(false));
        assert_eq!(u64::restore(&Value::Null), None);
    }
}
