//! The OAuth 2.0 client protocol and its flows, without any IO of its own.
//!
//! Read it in this order:
//!
//! 1. [`config`]: what a host says of a connection, and what is wrong with it;
//! 2. [`provider`] and [`metadata`]: where the endpoints come from, [`dialect`]:
//!    how a provider departs from the standard, and [`endpoint`]: what may be an
//!    endpoint; `resource`: from a resource to its server;
//! 3. [`authorization`]: the request that the user's browser carries, and the
//!    redirect that comes back; [`device_authorization`]: the same for a user
//!    whose browser is elsewhere;
//! 4. [`token_request`], with [`client_authentication`]: what is sent to the
//!    token endpoint; `jws`: what is signed for it, and [`dpop`]: the proof;
//! 5. [`token_response`], with [`id_token`]: what its answer means;
//! 6. [`record`], [`json`], [`seal`]: what is stored, in which form, and how it
//!    is kept from view;
//! 7. [`renewal`]: when a token is fresh and when a failure is tried again;
//! 8. [`connection`]: the flows, written once over the [`platform`].

pub mod authorization;
mod base64;
pub mod challenge;
pub mod client_authentication;
pub mod config;
pub mod connection;
pub mod device_authorization;
pub mod dialect;
pub mod dpop;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod http;
pub mod id_token;
pub mod json;
mod jws;
pub mod metadata;
pub mod pkce;
pub mod platform;
pub mod provider;
pub mod record;
pub mod renewal;
mod resource;
pub mod seal;
pub mod secret;
pub mod time;
pub mod token_request;
pub mod token_response;
