//! What the component imports, one module per interface. `wasi:http` is in
//! `http_client`.

mod events;
mod secrets;
mod token_store;
mod user_agent;

pub use token_store::HeldLease;
pub use user_agent::{HeldArrival, HeldListener};

use std::sync::Arc;

use crate::events::EventSink;
use crate::http_client::HttpClients;
use crate::network::NetworkPolicy;
use crate::queue::Servers;
use crate::secrets::Secrets;
use crate::store::TokenStore;
use crate::user_agent::UserAgent;

/// What stands behind the imports, shared by all instances of a host.
pub(crate) struct Services {
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) secrets: Box<dyn Secrets>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) user_agent: Box<dyn UserAgent>,
    pub(crate) policy: NetworkPolicy,
    pub(crate) http: HttpClients,
    pub(crate) servers: Servers,
}
