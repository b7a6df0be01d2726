//! The contract of `wit/` in Rust: its types, and the bindings of the world
//! `interactive-connection`.

mod types;

pub use types::*;

pub use bindings::exports::tokenwell::oauth2::interactive::AuthorizeOptions;
pub use bindings::tokenwell::oauth2::secrets::SecretError;
pub use bindings::tokenwell::oauth2::token_store::{Entry, Loaded, StoreError, Swapped};
pub use bindings::tokenwell::oauth2::user_agent::{Outcome, UserAgentError};

/// The types as the bindings want them: with a `Host` to implement and a linker
/// to be added to, although the interface has no functions.
#[allow(dead_code, reason = "the bindings of the whole world name them")]
pub mod linked_types {
    pub use super::types::*;

    pub trait Host {}
    impl<H: ?Sized> Host for H {}

    pub trait HostWithStore<T> {}
    impl<H: ?Sized, T> HostWithStore<T> for H {}

    pub fn add_to_linker<T, D: wasmtime::component::HasData>(
        _: &mut wasmtime::component::Linker<T>,
        _: fn(&mut T) -> D::Data<'_>,
    ) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// `wasi:http/types` as the bindings want them: with a linker function that
/// takes no options.
#[allow(dead_code, reason = "the bindings of the whole world name it")]
pub mod linked_http_types {
    pub use wasmtime_wasi_http::p2::bindings::http::types::*;

    pub fn add_to_linker<T, D>(
        linker: &mut wasmtime::component::Linker<T>,
        host: fn(&mut T) -> D::Data<'_>,
    ) -> wasmtime::Result<()>
    where
        D: HostWithStore<T>,
        for<'a> D::Data<'a>: Host,
        T: Send + 'static,
    {
        wasmtime_wasi_http::p2::bindings::http::types::add_to_linker::<T, D>(
            linker,
            &LinkOptions::default(),
            host,
        )
    }
}

/// What [`wasmtime::component::bindgen!`] makes of the world.
#[allow(
    missing_docs,
    unsafe_code,
    reason = "made from the WIT, which documents it"
)]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "tokenwell:oauth2/interactive-connection",
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [Clone, PartialEq, Eq],
        with: {
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:http/outgoing-handler": wasmtime_wasi_http::p2::bindings::http::outgoing_handler,
            "wasi:http/types": crate::contract::linked_http_types,
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:random": wasmtime_wasi::p2::bindings::random,
            "tokenwell:oauth2/types": crate::contract::linked_types,
            "tokenwell:oauth2/token-store.lease": crate::imports::HeldLease,
            "tokenwell:oauth2/user-agent.arrival": crate::imports::HeldArrival,
            "tokenwell:oauth2/user-agent.listener": crate::imports::HeldListener,
        },
    });
}

/// What [`wasmtime::component::bindgen!`] makes of the interface that plugins are
/// lent.
#[allow(
    missing_docs,
    unsafe_code,
    reason = "made from the WIT, which documents it"
)]
pub(crate) mod lent_bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "package tokenwell:host; world plugin { import tokenwell:oauth2/connections@0.2.0; }",
        world: "tokenwell:host/plugin",
        imports: { default: async | trappable },
        with: {
            "tokenwell:oauth2/types": crate::contract::linked_types,
            "tokenwell:oauth2/connections.connection": crate::plugins::LentConnection,
        },
    });
}

#[expect(clippy::derivable_impls, reason = "the type is made by the bindings")]
impl Default for AuthorizeOptions {
    fn default() -> Self {
        Self {
            authorization: AuthorizationOptions::default(),
            timeout_seconds: None,
            device: false,
        }
    }
}
