//! Support for the tests that cross crates: the command line as a process, two
//! real authorization servers, a real browser, and a server that answers as the
//! test dictates.
//!
//! It is for tests, so what goes wrong in it panics and says what to do.

mod authlib_server;
mod browser;
mod certificates;
mod cli;
mod keyring;
mod nginx;
mod oidc_provider;
mod part;
#[cfg(target_os = "linux")]
mod postgres;
mod process;
#[cfg(target_os = "linux")]
mod redis;
mod relay;
mod scripted_server;

pub use authlib_server::AuthlibServer;
pub use browser::{Browser, LandingPage};
pub use certificates::Certificates;
pub use cli::{Cli, Outcome, Running};
pub use keyring::SecretService;
pub use nginx::NginxServer;
pub use oidc_provider::{ClientKey, Decision, Lifetimes, OidcProvider, RecordedRequest, Settings};
pub use part::Part;
#[cfg(target_os = "linux")]
pub use postgres::PostgresServer;
#[cfg(target_os = "linux")]
pub use redis::RedisServer;
pub use relay::{Moment, Relay};
pub use scripted_server::{Answer, ReceivedRequest, ScriptedServer};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The longest that a test waits for anything at all. It is no measure of
/// speed: it only keeps a test that would hang from never ending.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How much the fault tests do: all of it where the build driver was told
/// `--faults`, else what fits into every run.
pub fn faults(full: usize, short: usize) -> usize {
    match std::env::var("TOKENWELL_FAULTS").as_deref() {
        Ok("full") => full,
        _ => short,
    }
}

/// Tells what a fault test did, past the test harness's capture.
pub fn report(what: &str) {
    use std::io::Write as _;
    // Standard error may be closed; then there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "FAULTS: {what}");
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// A file for what a test leaves behind to look at, under `target`.
pub fn keepsake(name: &str) -> PathBuf {
    let directory = workspace().join("target").join("test-results");
    std::fs::create_dir_all(&directory).expect("a directory for the results under target");
    directory.join(name)
}

/// Asks until there is an answer.
///
/// # Panics
/// Where there is none within [`PATIENCE`]; `what` says what was awaited.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "waited in vain for this: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A port of the loopback interface that nobody listens on.
///
/// # Panics
/// Where there is none.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// Reads a query or form as the `application/x-www-form-urlencoded` it is.
/// Names that occur twice stay twice.
pub fn form(encoded: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded.as_bytes())
        .into_owned()
        .collect()
}

/// The one value of a parameter.
///
/// # Panics
/// Where the parameter is missing or there more than once.
pub fn only<'a>(parameters: &'a [(String, String)], name: &str) -> &'a str {
    let mut values = parameters
        .iter()
        .filter(|(found, _)| found == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => panic!("there is no parameter {name}"),
        (Some(_), Some(_)) => panic!("the parameter {name} is there more than once"),
    }
}

/// A parameter of a URL's query.
///
/// # Panics
/// Where the URL cannot be read, or does not have the parameter exactly once.
pub fn query_parameter(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    only(&form(url.query().unwrap_or_default()), name).to_owned()
}
