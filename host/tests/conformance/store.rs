//! The cases of `store/`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokenwell::{Entry, Lease, Loaded, StoreError, Swapped, TokenStore};
use tokio::task::JoinSet;

use super::matching::{Bindings, Outcome, elements, known, text};
use super::{failed, steps};

/// Runs a case on handles that the function makes.
pub async fn run(case: &Value, make: &(dyn Fn() -> Arc<dyn TokenStore> + Sync)) -> Outcome<()> {
    known(case, &["case", "steps"])?;
    let mut stage = Stage {
        make,
        handles: BTreeMap::new(),
        leases: BTreeMap::new(),
        bindings: Bindings::default(),
    };
    for (number, step) in steps(case)?.iter().enumerate() {
        let done = stage.step(step).await;
        done.map_err(|why| format!("step {}: {why}", number + 1))?;
    }
    Ok(())
}

struct Stage<'a> {
    make: &'a (dyn Fn() -> Arc<dyn TokenStore> + Sync),
    handles: BTreeMap<String, Arc<dyn TokenStore>>,
    leases: BTreeMap<String, Box<dyn Lease>>,
    bindings: Bindings,
}

type Answer = Result<(Value, Option<Box<dyn Lease>>), StoreError>;

impl Stage<'_> {
    fn step<'s>(&'s mut self, step: &'s Value) -> Pin<Box<dyn Future<Output = Outcome<()>> + 's>> {
        Box::pin(async move {
            known(
                step,
                &[
                    "call",
                    "on",
                    "key",
                    "known",
                    "expected",
                    "value",
                    "fence",
                    "lease",
                    "ttl-milliseconds",
                    "wait-milliseconds",
                    "times",
                    "outcomes",
                    "meanwhile",
                    "gives",
                    "fails",
                    "growing",
                ],
            )?;
            if step["call"] == "release" {
                let lease = self.leases.remove(text(step, "lease")?);
                drop(lease.ok_or("there is no such lease")?);
            } else if let Some(times) = step.get("times").and_then(Value::as_u64) {
                self.at_once(step, times).await?;
            } else {
                let call = tokio::spawn(self.call(step)?);
                if step.get("meanwhile").is_some() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                for step in elements(step, "meanwhile") {
                    self.step(step).await?;
                }
                let answer = call.await.map_err(failed)?;
                self.compare(step, answer)?;
            }
            let names = elements(step, "growing").iter().filter_map(Value::as_str);
            let numbers = names.map(|name| self.bindings.get(name)?.parse::<u64>().map_err(failed));
            let numbers = numbers.collect::<Outcome<Vec<_>>>()?;
            if !numbers.is_sorted_by(|one, next| one < next) {
                return Err(format!("these do not grow: {numbers:?}"));
            }
            Ok(())
        })
    }

    /// Begins a call.
    fn call(&mut self, step: &Value) -> Outcome<impl Future<Output = Answer> + Send + use<>> {
        let handle = step.get("on").and_then(Value::as_str).unwrap_or("a");
        let make = self.make;
        let store = self.handles.entry(handle.to_owned()).or_insert_with(make);
        let store = Arc::clone(store);
        let number = |name: &str| -> Outcome<Option<u64>> {
            match step.get(name).and_then(Value::as_str) {
                None => Ok(None),
                Some(text) => Ok(Some(self.bindings.fill(text)?.parse().map_err(failed)?)),
            }
        };
        let milliseconds = |name: &str| {
            let milliseconds = step.get(name).and_then(Value::as_u64);
            Duration::from_millis(milliseconds.unwrap_or_default())
        };
        let call = text(step, "call")?.to_owned();
        let key = text(step, "key")?.to_owned();
        let (version, expected, fence) = (number("known")?, number("expected")?, number("fence")?);
        let value = step.get("value").map(bytes).transpose()?;
        let (ttl, wait) = (
            milliseconds("ttl-milliseconds"),
            milliseconds("wait-milliseconds"),
        );
        if !["load", "compare-and-swap", "delete", "acquire-lease"].contains(&call.as_str()) {
            return Err(format!("`{call}` is not known here"));
        }
        Ok(async move {
            Ok(match call.as_str() {
                "load" => (loaded(store.load(&key, version).await?), None),
                "compare-and-swap" => {
                    let value = value.unwrap_or_default();
                    let swapped = store.compare_and_swap(&key, expected, value, fence);
                    (swap(swapped.await?), None)
                }
                "delete" => {
                    let deleted = store.delete(&key, expected.unwrap_or_default());
                    (Value::Bool(deleted.await?), None)
                }
                _ => match store.acquire_lease(&key, ttl, wait).await? {
                    None => (Value::Null, None),
                    Some(lease) => (json!({"fence": lease.fence().to_string()}), Some(lease)),
                },
            })
        })
    }

    fn compare(&mut self, step: &Value, answer: Answer) -> Outcome<()> {
        let (found, lease) = match (answer, step.get("fails")) {
            (Ok(answer), None) => answer,
            (Err(error), Some(expected)) => {
                return self
                    .bindings
                    .expect(expected, Some(&failure(&error)), "error");
            }
            (answer, expected) => {
                let found = answer.map(|(found, _)| found);
                return Err(format!("expected {expected:?}, found {found:?}"));
            }
        };
        if let Some(lease) = lease {
            self.leases.insert(text(step, "lease")?.to_owned(), lease);
        }
        let expected = step.get("gives").ok_or("`gives` is missing")?;
        self.bindings
            .expect(&in_base64(expected)?, Some(&found), "result")
    }

    async fn at_once(&mut self, step: &Value, times: u64) -> Outcome<()> {
        let mut calls = JoinSet::new();
        for _ in 0..times {
            calls.spawn(self.call(step)?);
        }
        let mut outcomes = Map::new();
        for answer in calls.join_all().await {
            let (found, _) = answer.map_err(|error| format!("{error:?}"))?;
            let name = match &found {
                Value::Object(members) => members.keys().next().cloned(),
                other => other.as_str().map(str::to_owned),
            };
            let count = outcomes
                .entry(name.unwrap_or_else(|| found.to_string()))
                .or_insert(json!(0));
            *count = json!(count.as_u64().unwrap_or_default() + 1);
        }
        if step["outcomes"] != Value::Object(outcomes.clone()) {
            return Err(format!("the outcomes are {outcomes:?}"));
        }
        Ok(())
    }
}

fn entry(entry: &Entry) -> Value {
    json!({
        "version": entry.version.to_string(),
        "value": {"base64": STANDARD.encode(&entry.value)},
    })
}

fn loaded(loaded: Loaded) -> Value {
    match loaded {
        Loaded::Absent => json!("absent"),
        Loaded::Unchanged => json!("unchanged"),
        Loaded::Entry(found) => json!({"entry": entry(&found)}),
    }
}

fn swap(swapped: Swapped) -> Value {
    match swapped {
        Swapped::Stored(version) => json!({"stored": version.to_string()}),
        Swapped::Stale(current) => json!({"stale": current.as_ref().map(entry)}),
        Swapped::Fenced => json!("fenced"),
    }
}

fn failure(error: &StoreError) -> Value {
    json!(match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Denied(_) => "denied",
        StoreError::Corrupt(_) => "corrupt",
    })
}

/// A value in whichever form a case has it.
fn bytes(value: &Value) -> Outcome<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    known(value, &["base64", "counted"])?;
    match value.get("counted").and_then(Value::as_u64) {
        Some(length) => Ok((0..length).map(|i| (i % 251) as u8).collect()),
        None => STANDARD.decode(text(value, "base64")?).map_err(failed),
    }
}

/// What is expected, with the value of the entry in it in base64.
fn in_base64(expected: &Value) -> Outcome<Value> {
    let Value::Object(members) = expected else {
        return Ok(expected.clone());
    };
    let members = members.iter().map(|(name, member)| {
        let member = match name.as_str() {
            "value" => json!({"base64": STANDARD.encode(bytes(member)?)}),
            _ => in_base64(member)?,
        };
        Ok((name.clone(), member))
    });
    Ok(Value::Object(members.collect::<Outcome<_>>()?))
}
