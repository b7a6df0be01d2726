//! What benchmarks found, as a table or as JSON: held against its limits, and
//! against what the run before found.

use std::thread;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Everything that was found.
pub struct Report {
    pub groups: Vec<Group>,
    /// The [`numbers`](Self::numbers) of the run before.
    pub before: Option<Value>,
}

/// What is compared in the same way.
pub struct Group {
    title: String,
    rows: Vec<Row>,
}

/// One number.
struct Row {
    /// By which the next run finds it.
    id: String,
    what: String,
    unit: String,
    value: f64,
    beside: Option<f64>,
    limit: Option<Limit>,
}

/// What a number has to hold to.
#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    /// What the number is of the one beside it.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

/// What the benchmark of a package for another language may say, and what it is.
const OF_PACKAGE: [(&str, &str, bool); 4] = [
    ("warm_token_us", "fresh token at hand, in memory", false),
    (
        "warm_token_files_us",
        "fresh token at hand, in files",
        false,
    ),
    ("round_trip_us", "client credentials, in memory", true),
    ("round_trip_files_us", "client credentials, in files", true),
];

impl Group {
    /// The groups that the benchmarks of the Rust host print.
    pub fn all_of(found: &Value) -> Result<Vec<Self>> {
        let groups = found["groups"].as_array().context("there are no groups")?;
        let group = |group: &Value| {
            let rows = group["rows"].as_array().context("a group has no rows")?;
            Ok(Self {
                title: text(group, "title")?,
                rows: rows.iter().map(Row::of).collect::<Result<_>>()?,
            })
        };
        groups.iter().map(group).collect()
    }

    /// What the benchmark of a package for another language prints: the round trips
    /// are beside those of its peer, with the same server.
    pub fn of_package(found: &Value) -> Result<Self> {
        let (language, peer) = (text(found, "language")?, text(found, "peer")?);
        let number = |name: &str| found[name].as_f64();
        let beside = number("peer_round_trip_us").context("a peer has no peer_round_trip_us")?;
        let row = |(name, what, is_round_trip): (&str, &str, bool)| {
            Some(Row {
                id: format!("{language}-{name}"),
                what: what.to_owned(),
                unit: "µs".to_owned(),
                value: number(name)?,
                beside: is_round_trip.then_some(beside),
                limit: None,
            })
        };
        Ok(Self {
            title: format!("The package for {language}, beside {peer}"),
            rows: OF_PACKAGE.into_iter().filter_map(row).collect(),
        })
    }
}

fn text(object: &Value, field: &str) -> Result<String> {
    let text = object[field].as_str().map(str::to_owned);
    text.with_context(|| format!("a benchmark gave no {field}"))
}

impl Row {
    fn of(row: &Value) -> Result<Self> {
        let limit = |name: &str| row["limit"][name].as_f64();
        Ok(Self {
            id: text(row, "id")?,
            what: text(row, "what")?,
            unit: text(row, "unit")?,
            value: row["value"].as_f64().context("a row has no value")?,
            beside: row["beside"].as_f64(),
            limit: limit("at_most")
                .map(Limit::AtMost)
                .or_else(|| limit("ratio_at_most").map(Limit::RatioAtMost))
                .or_else(|| limit("ratio_at_least").map(Limit::RatioAtLeast)),
        })
    }

    fn ratio(&self) -> Option<f64> {
        self.beside.map(|beside| self.value / beside)
    }

    fn holds(&self) -> Option<bool> {
        let ratio = || self.ratio().unwrap_or(f64::NAN);
        self.limit.map(|limit| match limit {
            Limit::AtMost(most) => self.value <= most,
            Limit::RatioAtMost(most) => ratio() <= most,
            Limit::RatioAtLeast(least) => ratio() >= least,
        })
    }

    fn with_unit(&self, number: &str) -> String {
        match self.unit.as_str() {
            "" => number.to_owned(),
            unit => format!("{number} {unit}"),
        }
    }

    fn shown_limit(&self) -> String {
        match self.limit {
            None => String::new(),
            Some(Limit::AtMost(most)) => format!("≤ {}", self.with_unit(&most.to_string())),
            Some(Limit::RatioAtMost(most)) => format!("≤ {most} ×"),
            Some(Limit::RatioAtLeast(least)) => format!("≥ {least} ×"),
        }
    }

    fn line(&self, before: Option<f64>) -> String {
        let shown = |value: f64| self.with_unit(&rounded(value));
        let mark = match self.holds() {
            None => " ",
            Some(true) => "✓",
            Some(false) => "✗",
        };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}"));
        let change = before.filter(|before| *before > 0.0).map(|before| {
            let percent = (self.value / before - 1.0) * 100.0;
            format!("{percent:+.0} %")
        });
        line([
            &self.what,
            &shown(self.value),
            &self.beside.map(shown).unwrap_or_default(),
            &ratio.unwrap_or_default(),
            &self.shown_limit(),
            mark,
            &change.unwrap_or_default(),
        ])
    }

    fn json(&self, group: &Group, before: Option<f64>) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        put("id", Some(self.id.as_str().into()));
        put("group", Some(group.title.as_str().into()));
        put("what", Some(self.what.as_str().into()));
        put("unit", Some(self.unit.as_str().into()));
        put("value", Some(self.value.into()));
        put("beside", self.beside.map(Value::from));
        put("ratio", self.ratio().map(Value::from));
        put("limit", self.limit.map(|_| self.shown_limit().into()));
        put("holds", self.holds().map(Value::from));
        put("before", before.map(Value::from));
        fields.into()
    }
}

/// A line of the table, of 80 columns.
fn line([what, here, beside, ratio, limit, mark, change]: [&str; 7]) -> String {
    let line =
        format!("  {what:<31}{here:>11}{beside:>11}{ratio:>7}{limit:>9} {mark:1}{change:>7}");
    line.trim_end().to_owned()
}

/// Three digits of it, or all those before the point, in groups of three.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => return grouped(value),
    };
    format!("{value:.decimals$}")
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Report {
    /// The table, which fits a terminal of 80 columns.
    pub fn table(&self) -> String {
        let mut lines = vec![line([
            "median", "here", "beside", "ratio", "limit", "", "change",
        ])];
        for group in &self.groups {
            lines.push(String::new());
            lines.push(group.title.clone());
            let rows = group.rows.iter();
            lines.extend(rows.map(|row| row.line(self.before(&row.id))));
        }
        let judged: Vec<bool> = self.rows().filter_map(|(_, row)| row.holds()).collect();
        let broken = judged.iter().filter(|holds| !**holds).count();
        lines.push(String::new());
        lines.push(match broken {
            0 => format!("All {} limits hold.", judged.len()),
            broken => format!("{broken} of {} limits do not hold.", judged.len()),
        });
        lines.push(format!("Measured on {}.", machine()));
        lines.join("\n")
    }

    /// The same as one object.
    pub fn json(&self) -> Value {
        let rows = self.rows();
        let rows = rows.map(|(group, row)| row.json(group, self.before(&row.id)));
        json!({ "machine": machine(), "rows": rows.collect::<Vec<_>>() })
    }

    /// What the next run compares itself with: these numbers, and those of the
    /// run before that were not measured now.
    pub fn numbers(&self) -> Value {
        let before = self.before.as_ref().and_then(Value::as_object);
        let mut numbers = before.cloned().unwrap_or_default();
        for (_, row) in self.rows() {
            numbers.insert(row.id.clone(), row.value.into());
        }
        numbers.into()
    }

    fn rows(&self) -> impl Iterator<Item = (&Group, &Row)> {
        let groups = self.groups.iter();
        groups.flat_map(|group| group.rows.iter().map(move |row| (group, row)))
    }

    fn before(&self, id: &str) -> Option<f64> {
        self.before.as_ref()?.get(id)?.as_f64()
    }
}

/// What the numbers are of.
fn machine() -> String {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = described.lines().find_map(|line| {
        let (name, model) = line.split_once(':')?;
        (name.trim() == "model name").then(|| model.trim())
    });
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let model = model.unwrap_or(arch);
    format!("{threads} × {model}, {os}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(value: f64, limit: Value, before: Option<Value>) -> Report {
        let row = json!({
            "id": "id", "what": "thirty-one letters are the most", "unit": "/s",
            "value": value, "beside": 12_345.6, "limit": limit,
        });
        let found = json!({ "groups": [{ "title": "Numbers", "rows": [row] }] });
        Report {
            groups: Group::all_of(&found).unwrap(),
            before,
        }
    }

    #[test]
    fn a_limit_holds_up_to_its_number() {
        for (limit, value, holds) in [
            (json!({ "at_most": 20 }), 20.0, true),
            (json!({ "at_most": 20 }), 20.1, false),
            (json!({ "ratio_at_most": 1.25 }), 15_432.0, true),
            (json!({ "ratio_at_most": 1.25 }), 15_433.0, false),
            (json!({ "ratio_at_least": 0.5 }), 6172.8, true),
            (json!({ "ratio_at_least": 0.5 }), 6172.7, false),
        ] {
            let report = report(value, limit, None);
            assert_eq!(report.json()["rows"][0]["holds"], holds, "{value}");
            let (mark, conclusion) = if holds {
                ('✓', "All 1 limits hold.")
            } else {
                ('✗', "1 of 1 limits do not hold.")
            };
            let table = report.table();
            assert!(
                table.contains(mark) && table.contains(conclusion),
                "{table}"
            );
        }
    }

    #[test]
    fn the_table_fits_a_terminal_of_80_columns() {
        let before = Some(json!({ "id": 61_728.35 }));
        let table = report(123_456.7, json!({ "ratio_at_most": 1.25 }), before).table();
        let rows = table.lines().filter(|line| !line.starts_with("Measured"));
        assert!(
            rows.map(|line| line.chars().count()).max() <= Some(80),
            "{table}"
        );
        assert!(
            table.contains(" 123,457 /s  12,346 /s  10.00 ≤ 1.25 × ✗ +100 %"),
            "{table}"
        );
    }

    #[test]
    fn the_next_run_compares_itself_with_this_one_and_with_what_it_left_out() {
        let limit = json!({ "at_most": 2 });
        let first = report(
            1.5,
            limit.clone(),
            Some(json!({ "node-round_trip_us": 4.0 })),
        );
        assert!(first.json()["rows"][0]["before"].is_null());
        assert_eq!(
            first.numbers(),
            json!({ "id": 1.5, "node-round_trip_us": 4.0 })
        );
        let second = report(3.0, limit, Some(first.numbers()));
        assert_eq!(second.json()["rows"][0]["before"], 1.5);
        assert!(second.table().contains("+100 %"));
    }

    #[test]
    fn the_round_trips_of_a_package_are_beside_those_of_its_peer() {
        let found = json!({
            "language": "python", "peer": "Authlib", "warm_token_us": 90.5,
            "round_trip_us": 3000, "peer_round_trip_us": 2000,
        });
        let report = Report {
            groups: vec![Group::of_package(&found).unwrap()],
            before: None,
        };
        let json = report.json();
        assert_eq!(json["rows"][0]["id"], "python-warm_token_us");
        assert!(json["rows"][0]["beside"].is_null());
        assert_eq!(json["rows"][1]["ratio"], 1.5);
        assert!(report.table().contains("beside Authlib"));
        assert!(Group::of_package(&json!({ "language": "python" })).is_err());
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.416, "0.42"),
            (9.999, "10.0"),
            (41.66, "41.7"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-3.0, "-3.00"),
        ] {
            assert_eq!(rounded(value), text);
        }
    }
}
