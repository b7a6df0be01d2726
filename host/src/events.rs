//! What happens, told as it happens.

use crate::contract::Event;

/// Takes note of events. They contain neither secrets nor tokens.
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
