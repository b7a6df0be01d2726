//! What happens to a connection, told as it happens and kept in its history.

use crate::json::{Stored, stored_cases, stored_fields};
use crate::time::Timestamp;
use serde_json::Value;

/// How many events a history keeps.
const HISTORY_LIMIT: usize = 50;

/// What happened. The list grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The user was sent to the authorization server.
    AuthorizationBegun,
    /// The connection was authorized.
    Authorized,
    /// An authorization came to nothing.
    AuthorizationFailed,
    /// A token was obtained without the user.
    Renewed,
    /// A renewal failed; it is tried again.
    RenewalFailed,
    /// A renewal was begun, and whether the server acted on it is not known.
    RenewalInterrupted,
    /// The server does not renew any more.
    ReauthorizationRequired,
    /// The credential was forgotten.
    Cleared,
    /// The credential was revoked at the server.
    Revoked,
    /// A response departed from the standard and was read all the same.
    QuirkApplied,
    /// A redirect was not the answer to an authorization begun here.
    RedirectRefused,
}

stored_cases!(EventKind {
    AuthorizationBegun = "authorization-begun",
    Authorized = "authorized",
    AuthorizationFailed = "authorization-failed",
    Renewed = "renewed",
    RenewalFailed = "renewal-failed",
    RenewalInterrupted = "renewal-interrupted",
    ReauthorizationRequired = "reauthorization-required",
    Cleared = "cleared",
    Revoked = "revoked",
    QuirkApplied = "quirk-applied",
    RedirectRefused = "redirect-refused",
});

/// One thing that happened. Never a secret in one; a token is told by its
/// [fingerprint](crate::secret::SecretString::fingerprint).
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// What, in one sentence.
    pub message: String,
    /// The particulars, by name.
    pub details: Vec<(String, String)>,
}

stored_fields!(Event {
    at,
    kind,
    message,
    details
});

impl Event {
    /// An event without particulars.
    pub fn new(at: Timestamp, kind: EventKind, message: impl Into<String>) -> Self {
        Self {
            at,
            kind,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// Adds a particular.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.push((name.to_owned(), value.into()));
        self
    }
}

/// What has happened, the latest last.
///
/// It is kept as it is stored, a line for each event with its parts between tabs,
/// since each renewal reads and writes it and hardly anyone looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History(String);

impl History {
    /// The history of such lines.
    pub(crate) fn of_lines(lines: &str) -> Self {
        Self(lines.to_owned())
    }

    /// Its lines, as they are stored.
    pub(crate) fn lines(&self) -> &str {
        &self.0
    }

    /// The events.
    pub fn events(&self) -> Vec<Event> {
        self.0.lines().filter_map(read).collect()
    }

    /// Adds an event, and forgets the oldest. The same failure again, or the same
    /// quirk, takes the place of the one before: an outage of a day must not push
    /// out everything else.
    pub fn add(&mut self, event: &Event) {
        let line = write(event);
        let mut lines: Vec<&str> = self.0.lines().collect();
        let is_same = |earlier: &str| told(earlier) == told(&line);
        match event.kind {
            EventKind::RenewalFailed if lines.last().is_some_and(|last| is_same(last)) => {
                lines.pop();
            }
            EventKind::QuirkApplied => lines.retain(|earlier| !is_same(earlier)),
            _ => {}
        }
        lines.push(&line);
        let forgotten = lines.len().saturating_sub(HISTORY_LIMIT);
        self.0 = lines[forgotten..].join("\n");
    }
}

/// The line of an event.
fn write(event: &Event) -> String {
    let mut line = event.at.0.to_string();
    let parts = event.details.iter().flat_map(|(name, value)| [name, value]);
    for part in [event.kind.as_str(), &event.message]
        .into_iter()
        .chain(parts.map(String::as_str))
    {
        line.push('\t');
        line.extend(part.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    line
}

/// The event of a line; `None` for one of a kind that a later version has.
fn read(line: &str) -> Option<Event> {
    let mut parts = line.split('\t').map(str::to_owned);
    let mut event = Event::new(
        Timestamp(parts.next()?.parse().ok()?),
        EventKind::restore(&Value::String(parts.next()?))?,
        parts.next()?,
    );
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        event.details.push((name, value));
    }
    Some(event)
}

/// What a line tells apart from when: kind and message.
fn told(line: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = line.split('\t').skip(1);
    (parts.next(), parts.next())
}

impl Stored for History {
    /// Nothing: it has its place behind the record's object.
    fn store(&self) -> Value {
        Value::Null
    }

    fn restore(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::default()),
            Value::String(lines) => Some(Self(lines.clone())),
            // What an earlier version wrote.
            events => {
                let events = Vec::<Event>::restore(events)?;
                let lines: Vec<_> = events.iter().map(write).collect();
                Some(Self(lines.join("\n")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: &[(u64, EventKind, &str)]) -> History {
        let mut history = History::default();
        for (at, kind, message) in events {
            history.add(&Event::new(Timestamp(*at), *kind, *message));
        }
        history
    }

    fn times(history: &History) -> Vec<u64> {
        history.events().iter().map(|event| event.at.0).collect()
    }

    #[test]
    fn an_event_is_read_back_as_it_was() {
        let event = Event::new(Timestamp(7), EventKind::Renewed, "It was due.")
            .with("reason", "early")
            .with("empty", "");
        let mut history = History::default();
        history.add(&event);
        assert_eq!(history.events(), [event]);
        assert_eq!(History::of_lines(history.lines()), history);
    }

    #[test]
    fn what_would_end_a_part_or_a_line_is_a_blank() {
        let history = history(&[(1, EventKind::RenewalFailed, "a\tb\r\nc")]);
        assert_eq!(history.events()[0].message, "a b  c");
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let events: Vec<_> = (0..60).map(|at| (at, EventKind::Renewed, "")).collect();
        assert_eq!(times(&history(&events)), Vec::from_iter(10..60));
    }

    #[test]
    fn the_same_failure_again_takes_one_place() {
        use EventKind::{RenewalFailed, Renewed};
        let history = history(&[
            (1, RenewalFailed, "a"),
            (2, RenewalFailed, "a"),
            (3, RenewalFailed, "b"),
            (4, RenewalFailed, "b"),
            (5, Renewed, ""),
            (6, RenewalFailed, "b"),
        ]);
        assert_eq!(times(&history), [2, 4, 5, 6]);
    }

    #[test]
    fn the_same_quirk_again_takes_one_place_wherever_it_was() {
        use EventKind::{QuirkApplied, Renewed};
        let history = history(&[
            (1, QuirkApplied, "a"),
            (2, QuirkApplied, "b"),
            (3, Renewed, "a"),
            (4, QuirkApplied, "a"),
        ]);
        assert_eq!(times(&history), [2, 3, 4]);
    }

    #[test]
    fn a_history_of_an_earlier_version_is_read() {
        let events = vec![Event::new(Timestamp(7), EventKind::Renewed, "b").with("c", "d")];
        for stored in [
            events.store(),
            Value::String("7\trenewed\tb\tc\td".to_owned()),
        ] {
            let restored = History::restore(&stored).expect("a history");
            assert_eq!(restored.events(), events);
        }
    }

    #[test]
    fn the_last_line_may_have_an_end_or_none() {
        for stored in ["1\trenewal-failed\ta", "1\trenewal-failed\ta\n"] {
            let mut history = History::of_lines(stored);
            for (at, message) in [(2, "a"), (3, "b")] {
                history.add(&Event::new(
                    Timestamp(at),
                    EventKind::RenewalFailed,
                    message,
                ));
            }
            assert_eq!(times(&history), [2, 3]);
        }
    }

    #[test]
    fn a_line_of_a_later_version_is_passed_over_and_kept() {
        let stored = "1\tforetold\tx\n2\trenewed\ty\n";
        let history = History::of_lines(stored);
        assert_eq!(times(&history), [2]);
        assert_eq!(history.lines(), stored);
    }
}
