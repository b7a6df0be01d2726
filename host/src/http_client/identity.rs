//! The client's own certificate (RFC 8705), and the clients of a host: who shows one has connections of his
//! own, since a pooled connection is somebody's for as long as it lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{HttpClient, Judgement, Manner, Shared};
use crate::network::NetworkPolicy;

/// A certificate with what vouches for it, and its private key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Which of the two texts of an identity is wrong, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Certificate(String),
    Key(String),
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            certificates: self.certificates.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    /// Reads a certificate chain and a private key, both PEM.
    pub(crate) fn read(certificates: &str, key: &str) -> Result<Self, Malformed> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificates.as_bytes()).collect();
        let chain = match chain {
            Ok(chain) if chain.is_empty() => {
                return Err(Malformed::Certificate("has no certificate".to_owned()));
            }
            Ok(chain) => chain,
            Err(error) => return Err(Malformed::Certificate(format!("is no PEM: {error}"))),
        };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| Malformed::Key(format!("is no PEM of a private key: {error}")))?;
        Ok(Self {
            certificates: chain,
            key,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for certificate in &self.certificates {
            hash.update(certificate);
        }
        hash.update(self.key.secret_der());
        hash.finalize().into()
    }
}

/// How long a client is kept that nobody uses, and the private key in it: for
/// longer than its connections are. How often those are looked for.
const UNUSED_LIMIT: Duration = Duration::from_secs(60);

/// The HTTP clients of a host.
pub(crate) struct HttpClients {
    shared: Arc<Shared>,
    anonymous: Arc<HttpClient>,
    others: Mutex<Others>,
}

/// The clients that are of somebody.
struct Others {
    clients: HashMap<Key, Other>,
    /// When those that nobody uses were dropped last.
    shed: Instant,
}

struct Other {
    client: Arc<HttpClient>,
    /// When it was asked for last.
    asked_for: Instant,
}

impl Others {
    /// Drops the clients that nobody has used for a while.
    fn shed(&mut self, now: Instant) {
        if now - self.shed < UNUSED_LIMIT {
            return;
        }
        self.shed = now;
        self.clients.retain(|_, other| {
            Arc::strong_count(&other.client) > 1
                || now - other.asked_for < UNUSED_LIMIT
                || other.client.has_places_apart()
        });
    }
}

/// Whose connections a client pools.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    identity: Option<[u8; 32]>,
    judgement: JudgementKey,
    plugin: Option<Arc<str>>,
}

#[derive(PartialEq, Eq, Hash)]
enum JudgementKey {
    System,
    TrustedBy(Arc<str>),
    AnythingFor(Arc<str>),
}

impl HttpClients {
    pub(crate) fn new(policy: NetworkPolicy) -> Self {
        let shared = Arc::new(Shared::new(policy));
        let plain = Manner {
            identity: None,
            judgement: Judgement::System,
        };
        Self {
            anonymous: Arc::new(HttpClient::new(Arc::clone(&shared), plain)),
            shared,
            others: Mutex::new(Others {
                clients: HashMap::new(),
                shed: Instant::now(),
            }),
        }
    }

    /// The client of everybody who shows no certificate and judges those of
    /// servers by the system's roots.
    pub(crate) fn anonymous(&self) -> Arc<HttpClient> {
        // There may be nobody left who asks for another.
        if let Ok(mut others) = self.others.try_lock() {
            others.shed(Instant::now());
        }
        Arc::clone(&self.anonymous)
    }

    /// The client of those who send in that manner, or of a plugin that does: what
    /// it leaves unread holds up neither the connections' own requests nor other
    /// plugins, and nobody else's requests go where its have gone.
    pub(crate) fn client(&self, manner: Manner, plugin: Option<&Arc<str>>) -> Arc<HttpClient> {
        let key = Key {
            identity: manner.identity.as_ref().map(Identity::fingerprint),
            judgement: match &manner.judgement {
                Judgement::System => JudgementKey::System,
                Judgement::Trusted(trust) => {
                    JudgementKey::TrustedBy(Arc::clone(&trust.witness.connection))
                }
                Judgement::Anything(witness) => {
                    JudgementKey::AnythingFor(Arc::clone(&witness.connection))
                }
            },
            plugin: plugin.cloned(),
        };
        if (&key.identity, &key.judgement, plugin) == (&None, &JudgementKey::System, None) {
            return self.anonymous();
        }
        let now = Instant::now();
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.shed(now);
        let other = others.clients.entry(key).or_insert_with(|| Other {
            client: Arc::new(match plugin {
                None => HttpClient::new(Arc::clone(&self.shared), manner),
                Some(_) => HttpClient::apart(Arc::clone(&self.shared), manner),
            }),
            asked_for: now,
        });
        other.asked_for = now;
        Arc::clone(&other.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified() -> (String, String) {
        let certified = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        (certified.cert.pem(), certified.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_read() {
        let (certificate, key) = certified();
        let identity = Identity::read(&certificate, &key).unwrap();
        assert_eq!(identity.certificates.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_key() {
        let (certificate, key) = certified();
        for (certificates, given, part) in [
            ("", key.as_str(), "certificate"),
            (key.as_str(), key.as_str(), "certificate"),
            (certificate.as_str(), "", "key"),
            (certificate.as_str(), certificate.as_str(), "key"),
        ] {
            let malformed = Identity::read(certificates, given).unwrap_err();
            let found = match &malformed {
                Malformed::Certificate(text) => ("certificate", text),
                Malformed::Key(text) => ("key", text),
            };
            assert_eq!(found.0, part);
            assert!(!found.1.contains("BEGIN"), "{}", found.1);
        }
    }

    fn showing(certificate: &str, key: &str) -> Manner {
        Manner {
            identity: Some(Identity::read(certificate, key).unwrap()),
            judgement: Judgement::System,
        }
    }

    #[test]
    fn those_who_show_the_same_certificate_share_a_client() {
        let clients = HttpClients::new(NetworkPolicy::default());
        let (certificate, key) = certified();
        let client = |certificate: &str, key: &str| clients.client(showing(certificate, key), None);
        let (other_certificate, other_key) = certified();
        let one = client(&certificate, &key);
        assert!(Arc::ptr_eq(&one, &client(&certificate, &key)));
        assert!(!Arc::ptr_eq(&one, &client(&other_certificate, &other_key)));
        assert!(!Arc::ptr_eq(&one, &clients.anonymous()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_kept_between_its_uses_and_dropped_when_there_are_no_more() {
        let clients = HttpClients::new(NetworkPolicy::default());
        let (certificate, key) = certified();
        let (rotated_certificate, rotated_key) = certified();
        let in_use = clients.client(showing(&certificate, &key), None);
        let rotated = || clients.client(showing(&rotated_certificate, &rotated_key), None);
        let unused = Arc::downgrade(&rotated());
        for _ in 0..5 {
            tokio::time::advance(UNUSED_LIMIT / 2).await;
            assert!(std::ptr::eq(unused.as_ptr(), Arc::as_ptr(&rotated())));
        }
        tokio::time::advance(2 * UNUSED_LIMIT).await;
        clients.anonymous();
        assert!(unused.upgrade().is_none());
        assert!(Arc::ptr_eq(
            &in_use,
            &clients.client(showing(&certificate, &key), None)
        ));
    }
}
