//! What is told to a recorder and to a subscriber, which are this module's own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};

use super::{observed, told};
use crate::contract::{Event, Parameter};
use crate::error::{Error, Unavailability};

/// Keeps what is counted and measured as lines, in order.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<String>>>);

impl Recorded {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

struct Instrument(Recorded, String);

impl CounterFn for Instrument {
    fn increment(&self, value: u64) {
        self.0.note(format!("{} +{value}", self.1));
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for Instrument {
    fn record(&self, value: f64) {
        assert!(value >= 0.0);
        self.0.note(self.1.clone());
    }
}

fn named(key: &Key) -> String {
    let labels = key.labels().map(|l| format!("{}={}", l.key(), l.value()));
    let labels: Vec<String> = labels.collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.note(format!("counter {} in {unit:?}", key.as_str()));
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.note(format!("histogram {} in {unit:?}", key.as_str()));
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Instrument(self.clone(), named(key))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Instrument(self.clone(), named(key))))
    }
}

/// Keeps spans and events as lines, in order.
#[derive(Clone, Default)]
struct Watched {
    lines: Recorded,
    spans: Arc<AtomicU64>,
    within: Arc<Mutex<Vec<u64>>>,
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl Subscriber for Watched {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "tokenwell"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::default();
        span.record(&mut fields);
        let level = *span.metadata().level();
        self.lines.note(format!("{level} span {id}:{}", fields.0));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        let line = format!("span {}:{}", span.into_u64(), fields.0);
        self.lines.note(line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let within = self.within.lock().unwrap().last().copied();
        let level = *event.metadata().level();
        let line = format!("{level} event in {within:?}:{}", fields.0);
        self.lines.note(line);
    }

    fn enter(&self, span: &Id) {
        self.within.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.within.lock().unwrap().pop();
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(Level::TRACE.into())
    }
}

fn event(kind: &str, details: &[(&str, &str)]) -> Event {
    let details = details.iter().map(|(name, value)| Parameter {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    Event {
        at: 0,
        connection: "shop".to_owned(),
        kind: kind.to_owned(),
        message: "it happened".to_owned(),
        details: details.collect(),
    }
}

fn unavailable() -> Error {
    Error::Unavailable(Unavailability {
        cause: "no answer".to_owned(),
        retry_at: None,
    })
}

/// Has this thread watched.
fn watching(watched: &Watched) -> tracing::subscriber::DefaultGuard {
    let watching = tracing::subscriber::set_default(watched.clone());
    // An event that another thread came upon for the first time just now may have
    // been noted as one that nobody watches.
    std::thread::sleep(Duration::from_millis(1));
    tracing::callsite::rebuild_interest_cache();
    watching
}

/// What is counted and measured meanwhile.
async fn recorded(work: impl Future<Output = ()>) -> Vec<String> {
    let recorder = Recorded::default();
    let _installed = metrics::set_default_local_recorder(&recorder);
    work.await;
    recorder.lines()
}

#[tokio::test]
async fn a_token_that_was_at_hand_is_a_hit_and_one_that_was_renewed_is_none() {
    let lines = recorded(async {
        let at_hand = async { Ok(()) };
        observed(call!("token", hands out), "shop", at_hand)
            .await
            .unwrap();
        let renewed = async {
            tokio::task::yield_now().await;
            told(&event("renewed", &[("reason", "early")]));
            Ok(())
        };
        observed(call!("token", hands out), "shop", renewed)
            .await
            .unwrap();
    })
    .await;
    assert_eq!(
        lines,
        [
            "tokenwell_token_cache_hits_total{} +1",
            "tokenwell_call_duration_seconds{call=token,outcome=ok}",
            "tokenwell_renewals_total{reason=early} +1",
            "tokenwell_call_duration_seconds{call=token,outcome=ok}",
        ]
    );
}

#[tokio::test]
async fn a_call_that_hands_out_no_token_is_no_hit() {
    let lines = recorded(async {
        observed(call!("status"), "shop", async { Ok(()) })
            .await
            .unwrap();
    })
    .await;
    assert_eq!(
        lines,
        ["tokenwell_call_duration_seconds{call=status,outcome=ok}"]
    );
}

#[tokio::test]
async fn a_call_is_measured_with_how_it_ended() {
    let lines = recorded(async {
        let failing = async { Err::<(), _>(unavailable()) };
        observed(call!("token", hands out), "shop", failing)
            .await
            .unwrap_err();
        let endless = std::future::pending::<Result<(), Error>>();
        let call = observed(call!("refresh"), "shop", endless);
        tokio::select! {
            biased;
            _ = call => {}
            () = std::future::ready(()) => {}
        }
    })
    .await;
    assert_eq!(
        lines,
        [
            "tokenwell_call_duration_seconds{call=token,outcome=unavailable}",
            "tokenwell_call_duration_seconds{call=refresh,outcome=dropped}",
        ]
    );
}

#[tokio::test]
async fn renewals_that_failed_are_counted_by_what_they_failed_at() {
    let lines = recorded(async {
        for error in ["unavailable", "refused", "violation", "of a later version"] {
            told(&event("renewal-failed", &[("error", error)]));
        }
        told(&event("renewal-failed", &[]));
        told(&event("reauthorization-required", &[]));
        told(&event("cleared", &[]));
    })
    .await;
    let counted = |error| format!("tokenwell_renewal_failures_total{{error={error}}} +1");
    assert_eq!(
        lines,
        [
            "unavailable",
            "refused",
            "protocol_violation",
            "unknown",
            "unknown",
            "reauthorization_required"
        ]
        .map(counted)
    );
}

#[tokio::test]
async fn the_metrics_are_described_with_their_units() {
    let lines = recorded(async { super::describe() }).await;
    assert_eq!(
        lines,
        [
            "counter tokenwell_renewals_total in Some(Count)",
            "counter tokenwell_renewal_failures_total in Some(Count)",
            "counter tokenwell_token_cache_hits_total in Some(Count)",
            "histogram tokenwell_call_duration_seconds in Some(Seconds)",
        ]
    );
}

#[tokio::test]
async fn an_event_is_traced_within_the_span_of_its_call() {
    let watched = Watched::default();
    let _default = watching(&watched);
    let renewing = async {
        tokio::task::yield_now().await;
        told(&event("renewed", &[("reason", "early"), ("a", "b c")]));
        told(&event("renewal-failed", &[("error", "refused")]));
        Ok(())
    };
    observed(call!("token", hands out), "shop", renewing)
        .await
        .unwrap();
    told(&event("cleared", &[]));
    assert_eq!(
        watched.lines.lines(),
        [
            r#"DEBUG span 1: connection="shop" call="token""#,
            r#"INFO event in Some(1): message=it happened connection="shop" kind="renewed" reason="early" details=reason=early a="b c""#,
            r#"WARN event in Some(1): message=it happened connection="shop" kind="renewal-failed" error="refused" details=error=refused"#,
            r#"span 1: outcome="ok""#,
            r#"INFO event in None: message=it happened connection="shop" kind="cleared" details="#,
        ]
    );
}

#[tokio::test]
async fn a_call_of_the_component_is_counted_and_traced_with_what_it_did() {
    use serde_json::json;
    use tokenwell_tests::{Answer, ScriptedServer};

    let server = ScriptedServer::start();
    let answer = json!({"access_token": "at", "token_type": "Bearer", "expires_in": 3600});
    server.answer("/token", Answer::json(200, &answer));
    let config = json!({
        "grant_type": "client_credentials",
        "client_id": "job",
        "client_secret": "very-secret",
        "token_endpoint": server.url("/token"),
    });
    let host = crate::Host::builder().build().unwrap();
    let config = host.parse_config(&config.to_string()).await.unwrap();
    let connection = host.connection("job", config);
    let watched = Watched::default();
    let _default = watching(&watched);
    let lines = recorded(async {
        for _ in 0..2 {
            let options = crate::TokenOptions::default();
            connection.token(options).await.unwrap();
        }
    })
    .await;
    assert_eq!(
        lines,
        [
            "tokenwell_renewals_total{reason=first_token} +1",
            "tokenwell_call_duration_seconds{call=token,outcome=ok}",
            "tokenwell_token_cache_hits_total{} +1",
            "tokenwell_call_duration_seconds{call=token,outcome=ok}",
        ]
    );
    let lines = watched.lines.lines();
    let renewed = lines.iter().find(|line| line.contains("kind=\"renewed\""));
    assert!(renewed.unwrap().starts_with("INFO event in Some(1):"));
    assert!(!format!("{lines:?}").contains("very-secret"));
}
