//! Which addresses are public, judged where they are connected to.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use http::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

use super::BoxError;
use crate::network::NetworkPolicy;

/// A server whose address is not public, where the policy wants it to be.
#[derive(Debug)]
pub(super) struct PrivateAddress {
    server: String,
}

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at no public address", self.server)
    }
}

impl std::error::Error for PrivateAddress {}

/// That a server is at no public address.
pub(super) fn private(server: String) -> PrivateAddress {
    PrivateAddress { server }
}

/// The address that a host is written as, an IPv6 one in brackets or without.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse().ok()
}

/// Whether a host name or address is this machine's own.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || literal(host).is_some_and(|address| address.is_loopback())
}

/// Whether a URI names an address, and one that is not public. Such a one is not
/// resolved.
pub(super) fn is_private_literal(uri: &Uri) -> bool {
    let address = uri.host().and_then(literal);
    address.is_some_and(|address| !is_public(address))
}

/// The system's resolver, which where the policy wants it gives public addresses
/// alone.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    private_addresses: bool,
}

impl Resolver {
    pub(super) fn new(policy: &NetworkPolicy) -> Self {
        Self {
            private_addresses: policy.private_addresses,
            ..Self::of_proxies()
        }
    }

    /// For a proxy, which whoever runs the host has chosen, and which may well be
    /// at a private address.
    pub(super) fn of_proxies() -> Self {
        Self {
            system: GaiResolver::new(),
            private_addresses: true,
        }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let server = name.as_str().to_owned();
        let resolving = self.system.call(name);
        let private_addresses = self.private_addresses;
        Box::pin(async move {
            let mut addresses: Vec<SocketAddr> = resolving.await?.collect();
            if !private_addresses {
                addresses.retain(|address| is_public(address.ip()));
                if addresses.is_empty() {
                    return Err(private(server).into());
                }
            }
            Ok(addresses.into_iter())
        })
    }
}

/// Whether an address is one of the public internet, by the special-purpose
/// registries (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        // Shared address space (RFC 6598), IETF protocol assignments (RFC 6890),
        // benchmarking (RFC 2544), 6to4 relays (RFC 7526) and reserved (RFC 1112).
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18)
        || (a == 192 && b == 88 && c == 99)
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match address.segments() {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Documentation (RFC 3849, RFC 9637), IETF protocol assignments (RFC 2928).
        [0x2001, 0xdb8, ..] | [0x3fff, ..] => false,
        [0x2001, second, ..] if second < 0x200 => false,
        // Global unicast (RFC 4291 section 2.4) is all that has been given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_the_internet_are_public() {
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn no_other_address_is_public_however_it_is_written() {
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "::7f00:1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_seen() {
        let is_private = |url: &'static str| is_private_literal(&Uri::from_static(url));
        assert!(is_private("https://127.0.0.1/"));
        assert!(is_private("https://[::1]:8443/"));
        assert!(!is_private("https://8.8.8.8/"));
        assert!(!is_private("https://localhost/"));
    }
}
