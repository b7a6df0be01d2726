//! OAuth 2.0 client connections for sandboxed hosts: a [`Host`] runs the
//! Tokenwell component in wasmtime and gives it what a sandbox must not have:
//! storage, the network, the browser, keys.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use tokenwell::{Host, TokenOptions};
//!
//! let host = Host::in_directory("connections").build()?;
//! let config = host
//!     .parse_config(
//!         r#"{
//!             "grant_type": "client_credentials",
//!             "token_endpoint": "https://auth.example.com/token",
//!             "client_id": "plugin-platform",
//!             "client_secret": {"ref": "env:CLIENT_SECRET"}
//!         }"#,
//!     )
//!     .await?;
//! let crm = host.connection("crm", config);
//! let token = crm.token(TokenOptions::default()).await?; // never expired
//! # let _ = token;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Connection`] is cheap to clone, and each of its calls runs on a fresh
//! instance of the component: calls are concurrent, and one that is dropped loses
//! nothing: it ends at once, or, where a server may be about to answer with a
//! token, once that is stored; [`dropped_calls_ended`] waits for that before the
//! program ends. Where tokens are kept, where secrets come from, what becomes of
//! events and how the user is reached are traits ([`TokenStore`], [`Secrets`],
//! [`EventSink`], [`UserAgent`]) that a platform can put its own in place of.
//! `AuditLog` is a sink that writes JSON lines; [`telemetry`] tells what a host
//! counts, measures and traces.
//!
//! A host needs a tokio runtime with its I/O and time drivers.
//!
//! # Depending on it
//! `cargo xtask build` makes the component that this library embeds, and compiles
//! it ahead of time; a crate of another workspace then depends on the library by
//! the path of `host`, without `default-features` where it has no use for the
//! command line, and has both. Where the variable `TOKENWELL_COMPONENT` names a
//! component when the library is built, it is that one, which is compiled when a
//! host is built; [`HostBuilder::component`] takes one at run time.

#[cfg(feature = "audit")]
mod audit;
mod connection;
mod contract;
mod embedded;
mod engine;
mod error;
mod events;
mod files;
mod host;
mod http_client;
mod imports;
mod network;
mod plugins;
mod queue;
pub mod secrets;
pub mod store;
pub mod telemetry;
mod underway;
pub mod user_agent;
mod world;

#[cfg(feature = "audit")]
pub use audit::{AuditLog, AuditOptions};
pub use connection::Connection;
pub use contract::{
    AuthorizationOptions, AuthorizeOptions, BasicEncoding, ClientAuthentication, Config,
    ConnectionState, DeviceAuthorization, DevicePoll, Entry, Error as ConnectionError, ErrorKind,
    Event, Grant, JwtBearerGrant, Loaded, Outcome, Parameter, PasswordGrant, PendingAuthorization,
    Problem, Prompt, Provider, ProviderParameter, ProviderSummary, PushedAuthorization, Redirect,
    RedirectUris, Renewal, RenewalPolicy, RenewalReason, ResolvedField, ResponseMode, Secret,
    SecretError, ServerError, Severity, Status, StorageFailureKind, StoreError, Swapped, TlsMode,
    Token, TokenExchangeGrant, TokenOptions, UnixSeconds, UserAgentError, ValueOrigin,
    ViolationKind,
};
pub use embedded::precompile_component;
pub use engine::Limits;
pub use error::{
    BuildError, Error, Misfit, Reauthorization, StorageFailure, Unavailability, Violation,
};
pub use events::EventSink;
pub use host::{Host, HostBuilder};
pub use network::NetworkPolicy;
pub use plugins::{GrantError, Grants, PluginConnections, PluginConnectionsView, PluginHttp};
pub use secrets::{Import, KeySource, LocalSecrets, MasterPassword, SealingKey, Secrets, Transfer};
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "redis")]
pub use store::RedisStore;
pub use store::{FileStore, InvalidUrl, Lease, MemoryStore, TokenStore};
pub use underway::dropped_calls_ended;
pub use user_agent::{Arrival, Browser, Listener, LoopbackListener, UserAgent};

/// The wall clock, in Unix seconds.
fn now() -> UnixSeconds {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs()
}

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
