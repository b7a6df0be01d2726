//! The WASI 0.2 component: it translates between the contract and the flows,
//! and nothing else.
//!
//! Every effect blocks in the host. So the flows are compiled as plain functions
//! here (see `tokenwell_blocking`); only where the code is checked natively are
//! they asynchronous, and [`run`] runs either.

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

struct Component;

bindings::export!(Component with_types_in bindings);

/// What a flow comes to, which has run to its end already.
#[cfg(target_family = "wasm")]
fn run<T>(done: T) -> T {
    done
}

/// Runs a flow to its end, which is its first poll: no effect of this platform
/// is ever pending.
#[cfg(not(target_family = "wasm"))]
fn run<T>(flow: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Waker};
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(flow).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("every effect of this platform blocks"),
    }
}
