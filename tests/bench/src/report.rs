//! The numbers, for the build driver to read: it makes the table of them and
//! holds them against their limits.

use serde_json::{Value, json};

/// What is compared in the same way.
pub struct Group {
    pub title: String,
    pub rows: Vec<Row>,
}

/// One number.
pub struct Row {
    /// By which the next run finds it.
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    value: f64,
    beside: Option<f64>,
    limit: Option<Limit>,
}

#[derive(Clone, Copy)]
pub enum Unit {
    Microseconds,
    Bytes,
    PerSecond,
    Requests,
}

/// What a number has to hold to.
#[derive(Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    /// What the number is of the one beside it.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

impl Row {
    pub fn new(id: &'static str, what: &'static str, unit: Unit, value: f64) -> Self {
        Self {
            id,
            what,
            unit: match unit {
                Unit::Microseconds => "µs",
                Unit::Bytes => "B",
                Unit::PerSecond => "/s",
                Unit::Requests => "",
            },
            value,
            beside: None,
            limit: None,
        }
    }

    /// With what it is compared with.
    pub fn beside(mut self, other: f64) -> Self {
        self.beside = Some(other);
        self
    }

    pub fn limited(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    fn json(&self) -> Value {
        let limit = self.limit.map(|limit| match limit {
            Limit::AtMost(most) => json!({ "at_most": most }),
            Limit::RatioAtMost(most) => json!({ "ratio_at_most": most }),
            Limit::RatioAtLeast(least) => json!({ "ratio_at_least": least }),
        });
        json!({
            "id": self.id,
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "beside": self.beside,
            "limit": limit,
        })
    }
}

impl Group {
    pub fn json(&self) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        json!({ "title": self.title, "rows": rows })
    }
}
