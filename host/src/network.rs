//! What the connections of a host may do on the network.

use std::num::NonZeroUsize;

/// What the connections of a host may do on the network, whatever their configs
/// say. A connection's own requests go only to the origins that its config, its
/// provider and the verified metadata of its issuer name, and only by https or to
/// this machine; no policy loosens that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkPolicy {
    /// Whether requests may go to addresses that are not public: this machine's,
    /// private, link-local and reserved ones; `true`. Each address that a name
    /// resolves to is judged, and it is the judged one that is connected to, so
    /// that a name cannot be rebound. Behind a proxy it is the proxy that
    /// resolves names, and must judge; where the proxy itself is, is not judged.
    pub private_addresses: bool,
    /// Whether a config may have `tls: trust`; `true`.
    pub tls_trust: bool,
    /// Whether a config may have `tls: off`; `false`.
    pub tls_off: bool,
    /// Whether `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are heeded; `true`.
    /// A proxy is asked for a tunnel, in which the request goes by TLS as it would
    /// without one. The asking is in plain text, with the server's name and port
    /// and the user name and password that the variable has for the proxy. So it
    /// has to be an `http://` one; what would go through another fails.
    pub proxy_from_environment: bool,
    /// The most requests under way at once to one origin; 100. Further ones
    /// wait, and their timeout with them. Each plugin has as many of its own.
    pub in_flight_per_origin: NonZeroUsize,
}

impl NetworkPolicy {
    const IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(100).unwrap();
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            private_addresses: true,
            tls_trust: true,
            tls_off: false,
            proxy_from_environment: true,
            in_flight_per_origin: Self::IN_FLIGHT,
        }
    }
}
