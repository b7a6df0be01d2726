//! What happens, told as it happens.

use crate::contract::Event;
use crate::telemetry;

/// Takes note of events. They contain neither secrets nor tokens. Beside the
/// component's kinds there are those of what the host does itself:
/// `certificate-imported` and `insecure` (`tls: trust`, `off`), `cookie-refused`,
/// `plugin-refused`.
pub trait EventSink: Send + Sync + 'static {
    /// Takes note of one event. It must not wait: a call of a connection is
    /// held up meanwhile.
    fn emit(&self, event: Event);
}

/// Every function that takes an event is a sink.
impl<F: Fn(Event) + Send + Sync + 'static> EventSink for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}

/// All the sinks of a host, and what [`telemetry`] makes of each event.
#[derive(Default)]
pub(crate) struct Sinks(Vec<Box<dyn EventSink>>);

impl Sinks {
    pub(crate) fn add(&mut self, sink: impl EventSink) {
        self.0.push(Box::new(sink));
    }
}

impl EventSink for Sinks {
    fn emit(&self, event: Event) {
        telemetry::told(&event);
        let Some((last, others)) = self.0.split_last() else {
            return;
        };
        for sink in others {
            sink.emit(event.clone());
        }
        last.emit(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn each_of_several_sinks_is_told_each_event_in_order() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut sinks = Sinks::default();
        for number in 1..=3 {
            let told = Arc::clone(&told);
            sinks.add(move |event: Event| told.lock().unwrap().push((number, event.kind)));
        }
        for kind in ["renewed", "cleared"] {
            sinks.emit(Event {
                at: 0,
                connection: "shop".to_owned(),
                kind: kind.to_owned(),
                message: String::new(),
                details: Vec::new(),
            });
        }
        let expected = ["renewed", "cleared"]
            .iter()
            .flat_map(|kind| (1..=3).map(|number| (number, (*kind).to_owned())));
        assert_eq!(*told.lock().unwrap(), expected.collect::<Vec<_>>());
    }
}
