//! Ctrl-C, and the system's wish that the process end: what becomes of a command
//! then.

use std::pin::pin;

use super::failure::{Failure, Kind};
use super::output;

/// Does the work of a command that sends, unless a signal ends it first. Where a
/// server may have acted on a request by then, its answer is awaited and stored:
/// it may be the one that has the next refresh token. A second signal ends that
/// too.
///
/// # Errors
/// Interrupted or terminated, beside what the work fails with.
pub async fn heeded<T>(
    as_json: bool,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let told = async {
        let mut signals = Signals::new();
        let kind = signals.next().await;
        (signals, kind)
    };
    let (mut signals, kind) = {
        let work = pin!(work);
        tokio::select! {
            // What it does before it first waits, such as to ask for a secret,
            // a signal ends without our help.
            biased;
            outcome = work => return outcome,
            told = told => told,
        }
    };
    let mut ended = pin!(tokenwell::dropped_calls_ended());
    let is_ended = tokio::select! {
        biased;
        () = &mut ended => true,
        () = std::future::ready(()) => false,
    };
    if is_ended {
        return Err(Failure::ended(kind, "no token is lost"));
    }
    if !as_json {
        output::note(
            "The server may have answered already: awaiting that, so that no token is lost. A second Ctrl-C ends at \
             once.\n",
        );
    }
    tokio::select! {
        () = ended => Err(Failure::ended(kind, "`tokenwell history` tells what the server answered")),
        _ = signals.next() => Err(Failure::ended(kind, "what the server answers is lost")),
    }
}

/// The signals that end a command.
struct Signals {
    /// None where the system does not let them be caught, and so ends the
    /// process itself.
    #[cfg(unix)]
    both: Option<[tokio::signal::unix::Signal; 2]>,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = || {
            Ok::<_, std::io::Error>([
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ])
        };
        Self { both: both().ok() }
    }

    /// Waits for the next.
    #[cfg(unix)]
    async fn next(&mut self) -> Kind {
        let Some([interrupt, terminate]) = &mut self.both else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => Kind::Interrupted,
            _ = terminate.recv() => Kind::Terminated,
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Kind {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Kind::Interrupted
    }
}
