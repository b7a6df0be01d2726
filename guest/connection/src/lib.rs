//! The WASI 0.2 component: it translates between the contract and the flows,
//! and nothing else.
//!
//! Every effect blocks in the host, so a flow's future is ready at its first
//! poll; [`run`] holds it to that.

mod bindings {
    #[cfg(not(feature = "interactive"))]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "connection",
        generate_all,
        disable_run_ctors_once_workaround: true,
    });
    #[cfg(feature = "interactive")]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "interactive-connection",
        generate_all,
        disable_run_ctors_once_workaround: true,
    });
}

mod exports;
#[cfg(feature = "interactive")]
mod interactive;
mod outgoing;
mod platform;
mod translate;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

struct Component;

bindings::export!(Component with_types_in bindings);

/// Runs a flow to its end, which is its first poll: no effect of this platform
/// is ever pending.
fn run<T>(flow: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(flow).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("every effect of this platform blocks"),
    }
}
