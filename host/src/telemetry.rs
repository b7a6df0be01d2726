//! What a host tells of its calls and events to those who watch it, without
//! being asked: spans and events of the crate `tracing` (feature `tracing`),
//! counters and histograms of the crate `metrics` (feature `metrics`). Where the
//! program installs no subscriber and no recorder, next to nothing is done. None
//! of it contains a secret or a token.
//!
//! # Spans
//!
//! Each call of a [`Connection`](crate::Connection) is a span `call`, of the
//! target `tokenwell` and the level `DEBUG`, since a call for a token that is at
//! hand takes microseconds:
//!
//! | field | value |
//! |---|---|
//! | `connection` | the connection's name |
//! | `call` | the method: `token`, `refresh`, `authorization_headers`, … |
//! | `outcome` | how it ended, as in the table of metrics |
//!
//! # Events
//!
//! Each [`Event`](crate::Event) is an event of the target `tokenwell`, within the
//! span of the call that it happened in. It has the level `WARN` where somebody
//! should look (`authorization-failed`, `renewal-failed`, `renewal-interrupted`,
//! `reauthorization-required`, `redirect-refused`, `insecure`, `cookie-refused`,
//! `certificate-imported`, `plugin-refused`), else `INFO`:
//!
//! | field | value |
//! |---|---|
//! | `message` | what happened, in one sentence |
//! | `connection` | the connection's name |
//! | `kind` | what happened, in one word, such as `renewed` |
//! | `reason` | why a token was obtained, where one was |
//! | `error` | what a renewal failed at, where it did |
//! | `details` | all the particulars, `name=value`, separated by spaces |
//!
//! # Metrics
//!
//! | name | kind | labels | counts |
//! |---|---|---|---|
//! | `tokenwell_renewals_total` | counter | `reason` | tokens obtained from a server |
//! | `tokenwell_renewal_failures_total` | counter | `error` | renewals that failed |
//! | `tokenwell_token_cache_hits_total` | counter | | tokens handed out by a call that obtained none: they were at hand, or another caller renewed them |
//! | `tokenwell_call_duration_seconds` | histogram | `call`, `outcome` | how long calls took |
//!
//! `reason` is one of `authorization`, `first_token`, `expired`, `early`,
//! `min_validity`, `rejected`, `requested`, `config_changed`
//! ([`RenewalReason`](crate::RenewalReason)). `error` is one of `unavailable`,
//! `refused`, `denied`, `protocol_violation`, `reauthorization_required`,
//! `forbidden`, or `unknown` where the component does not say. `outcome` is `ok`;
//! the error: those of `error`, `not_configured`, `not_authorized`, `storage`,
//! `unsupported`, `internal`; or `dropped`, where the caller did not wait for the
//! end. `call` is the name of the method.
//!
//! No label names the connection: a platform may have a hundred thousand, and
//! each would be a time series. Which one it was, events tell.
//!
//! A call of [`Connection::send`](crate::Connection::send) contains one of `token`,
//! and where a proof is made one of `authorization_headers`; each is told.

use std::future::{Future, poll_fn};
use std::pin::pin;

use crate::contract::Event;
use crate::error::Error;

/// A kind of call, made by the macro [`call!`].
#[allow(dead_code, reason = "each feature needs another part of it")]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// Whether what it gives is a token.
    pub(crate) hands_out: bool,
    /// The key of its duration, where it succeeds: made once, so that a call
    /// allocates nothing.
    #[cfg(feature = "metrics")]
    pub(crate) succeeded: metrics::Key,
}

/// The kind of call of that name; `hands out` where what it gives is a token.
macro_rules! call {
    ($name:literal) => {
        $crate::telemetry::call!(@ $name, false)
    };
    ($name:literal, hands out) => {
        $crate::telemetry::call!(@ $name, true)
    };
    (@ $name:literal, $hands_out:literal) => {{
        #[cfg(feature = "metrics")]
        static LABELS: [metrics::Label; 2] = [
            metrics::Label::from_static_parts("call", $name),
            metrics::Label::from_static_parts("outcome", "ok"),
        ];
        static CALL: $crate::telemetry::Call = $crate::telemetry::Call {
            name: $name,
            hands_out: $hands_out,
            #[cfg(feature = "metrics")]
            succeeded: metrics::Key::from_static_parts(
                $crate::telemetry::CALL_DURATION,
                &LABELS,
            ),
        };
        &CALL
    }};
}
pub(crate) use call;

/// Does a call of a connection, and tells of it. Futures are not put into one
/// another for that: the call's own is large, and would be moved each time.
pub(crate) async fn observed<T>(
    call: &'static Call,
    connection: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    #[cfg(feature = "tracing")]
    let span = traced::span(call, connection);
    #[cfg(feature = "metrics")]
    let mut clock = measured::Clock::start(call);
    #[cfg(not(all(feature = "metrics", feature = "tracing")))]
    let _ = (call, connection);
    let result = poll_fn(|context| {
        #[cfg(feature = "tracing")]
        let _within = span.enter();
        #[cfg(feature = "metrics")]
        return clock.within(|| work.as_mut().poll(context));
        #[cfg(not(feature = "metrics"))]
        work.as_mut().poll(context)
    })
    .await;
    #[cfg(feature = "metrics")]
    clock.ended(&result);
    #[cfg(feature = "tracing")]
    span.record("outcome", outcome(&result));
    result
}

/// Tells of an event.
pub(crate) fn told(event: &Event) {
    #[cfg(feature = "metrics")]
    measured::count(event);
    #[cfg(feature = "tracing")]
    traced::tell(event);
    #[cfg(not(any(feature = "metrics", feature = "tracing")))]
    let _ = event;
}

/// Describes the metrics to the recorder, with their units. A host does so when
/// it is built; a program that installs its recorder later can do so itself.
pub fn describe() {
    #[cfg(feature = "metrics")]
    measured::describe();
}

/// How a call ended, in one word.
#[cfg(any(feature = "metrics", feature = "tracing"))]
fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::NotConfigured(_)) => "not_configured",
        Err(Error::NotAuthorized(_)) => "not_authorized",
        Err(Error::ReauthorizationRequired(_)) => "reauthorization_required",
        Err(Error::Denied(_)) => "denied",
        Err(Error::Refused(_)) => "refused",
        Err(Error::Unavailable(_)) => "unavailable",
        Err(Error::ProtocolViolation(_)) => "protocol_violation",
        Err(Error::Storage(_)) => "storage",
        Err(Error::Forbidden(_)) => "forbidden",
        Err(Error::Unsupported(_)) => "unsupported",
        Err(Error::Internal(_)) => "internal",
    }
}

/// One of an event's particulars.
#[cfg(any(feature = "metrics", feature = "tracing"))]
fn detail<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    let detail = event.details.iter().find(|detail| detail.name == name);
    detail.map(|detail| detail.value.as_str())
}

/// What a renewal failed at; `None` where the event tells of no such failure.
#[cfg(any(feature = "metrics", feature = "tracing"))]
fn failed_at(event: &Event) -> Option<&'static str> {
    match event.kind.as_str() {
        "renewal-failed" => Some(match detail(event, "error") {
            Some("unavailable") => "unavailable",
            Some("refused") => "refused",
            Some("denied") => "denied",
            Some("violation") => "protocol_violation",
            Some("forbidden") => "forbidden",
            _ => "unknown",
        }),
        "reauthorization-required" => Some("reauthorization_required"),
        _ => None,
    }
}

/// The names of the metrics, which the module's documentation explains.
#[cfg(feature = "metrics")]
const RENEWALS: &str = "tokenwell_renewals_total";
#[cfg(feature = "metrics")]
const RENEWAL_FAILURES: &str = "tokenwell_renewal_failures_total";
#[cfg(feature = "metrics")]
const CACHE_HITS: &str = "tokenwell_token_cache_hits_total";
#[cfg(feature = "metrics")]
pub(crate) const CALL_DURATION: &str = "tokenwell_call_duration_seconds";

#[cfg(feature = "metrics")]
mod measured {
    use std::cell::Cell;
    use std::time::Instant;

    use metrics::{Key, Label, Level, Metadata, Unit, with_recorder};

    use super::{CACHE_HITS, CALL_DURATION, Call, RENEWAL_FAILURES, RENEWALS};
    use super::{detail, failed_at, outcome};
    use crate::contract::Event;
    use crate::error::Error;

    static METADATA: Metadata<'static> =
        Metadata::new("tokenwell", Level::INFO, Some(module_path!()));
    static CACHE_HIT: Key = Key::from_static_name(CACHE_HITS);

    thread_local! {
        /// Whether the call that is running on this thread has obtained a token.
        static OBTAINED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn describe() {
        metrics::describe_counter!(
            RENEWALS,
            Unit::Count,
            "Tokens obtained from a server, by reason"
        );
        metrics::describe_counter!(
            RENEWAL_FAILURES,
            Unit::Count,
            "Renewals that failed, by error"
        );
        metrics::describe_counter!(
            CACHE_HITS,
            Unit::Count,
            "Tokens handed out by calls that obtained none"
        );
        metrics::describe_histogram!(
            CALL_DURATION,
            Unit::Seconds,
            "How long the calls of connections took, by call and outcome"
        );
    }

    pub(super) fn count(event: &Event) {
        if matches!(event.kind.as_str(), "renewed" | "authorized") {
            OBTAINED.set(true);
            let reason = detail(event, "reason").unwrap_or("unknown").to_owned();
            metrics::counter!(RENEWALS, "reason" => reason).increment(1);
        }
        if let Some(error) = failed_at(event) {
            metrics::counter!(RENEWAL_FAILURES, "error" => error).increment(1);
        }
    }

    /// Measures a call, one that is not waited for to its end included.
    pub(super) struct Clock {
        call: &'static Call,
        started: Instant,
        obtained: bool,
        outcome: &'static str,
    }

    impl Clock {
        pub(super) fn start(call: &'static Call) -> Self {
            Self {
                call,
                started: Instant::now(),
                obtained: false,
                outcome: "dropped",
            }
        }

        /// Does a part of the call, between two waits. It may be on another
        /// thread than the part before, or within another call.
        pub(super) fn within<T>(&mut self, part: impl FnOnce() -> T) -> T {
            let around = OBTAINED.replace(self.obtained);
            let done = part();
            self.obtained = OBTAINED.replace(around);
            done
        }

        pub(super) fn ended<T>(&mut self, result: &Result<T, Error>) {
            self.outcome = outcome(result);
            if self.call.hands_out && result.is_ok() && !self.obtained {
                with_recorder(|recorder| {
                    recorder
                        .register_counter(&CACHE_HIT, &METADATA)
                        .increment(1);
                });
            }
        }
    }

    impl Drop for Clock {
        fn drop(&mut self) {
            let seconds = self.started.elapsed().as_secs_f64();
            with_recorder(|recorder| {
                let record = |key: &Key| {
                    recorder.register_histogram(key, &METADATA).record(seconds);
                };
                if self.outcome == "ok" {
                    return record(&self.call.succeeded);
                }
                let labels = vec![
                    Label::from_static_parts("call", self.call.name),
                    Label::from_static_parts("outcome", self.outcome),
                ];
                record(&Key::from_parts(CALL_DURATION, labels));
            });
        }
    }
}

#[cfg(feature = "tracing")]
mod traced {
    use std::fmt;

    use tracing::field::Empty;
    use tracing::{Span, debug_span, info, warn};

    use super::{Call, detail, failed_at};
    use crate::contract::{Event, Parameter};

    pub(super) fn span(call: &Call, connection: &str) -> Span {
        debug_span!(
            target: "tokenwell",
            "call",
            connection,
            call = call.name,
            outcome = Empty
        )
    }

    pub(super) fn tell(event: &Event) {
        macro_rules! tell {
            ($level:ident) => {
                $level!(
                    target: "tokenwell",
                    connection = event.connection,
                    kind = event.kind,
                    reason = detail(event, "reason"),
                    error = failed_at(event),
                    details = %Details(&event.details),
                    "{}",
                    event.message
                )
            };
        }
        match event.kind.as_str() {
            "authorization-failed"
            | "renewal-failed"
            | "renewal-interrupted"
            | "reauthorization-required"
            | "redirect-refused"
            | "insecure"
            | "cookie-refused"
            | "certificate-imported"
            | "plugin-refused" => tell!(warn),
            _ => tell!(info),
        }
    }

    /// The particulars of an event in one line.
    struct Details<'a>(&'a [Parameter]);

    impl fmt::Display for Details<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (i, Parameter { name, value }) in self.0.iter().enumerate() {
                let space = if i > 0 { " " } else { "" };
                if value.contains(char::is_whitespace) {
                    write!(f, "{space}{name}={value:?}")?;
                } else {
                    write!(f, "{space}{name}={value}")?;
                }
            }
            Ok(())
        }
    }
}

#[cfg(all(test, feature = "metrics", feature = "tracing"))]
mod tests;
