//! How the certificates of servers are judged: by the system's roots, by what was
//! imported on first use, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BoxError, Witness};
use crate::contract::{Loaded, StoreError, Swapped};
use crate::store::TokenStore;

/// How the certificates of servers are judged.
#[derive(Clone)]
pub(crate) enum Judgement {
    /// By the system's roots.
    System,
    /// By how the server was first met: by the system's roots where they knew it,
    /// and by what was imported where they did not.
    Trusted(TrustFile),
    /// Not at all. Who is told of each request.
    Anything(Witness),
}

/// Where it is written how one connection first met its servers.
#[derive(Clone)]
pub(crate) struct TrustFile {
    pub(crate) store: Arc<dyn TokenStore>,
    /// The connection that they are for, and who is told of each import.
    pub(crate) witness: Witness,
}

/// How a connection first met its servers, each by host and port, in one list or
/// the other.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Met {
    servers: BTreeMap<String, Import>,
    /// Those that the system vouched for, and from then on has to. An entry from
    /// before there were any has no such list.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    vouched_for: BTreeSet<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Import {
    /// The SHA-256 fingerprint of the certificate, in hexadecimal.
    sha256: String,
    /// When it was imported, in Unix seconds.
    imported_at: u64,
    /// The certificate, DER in base64.
    certificate: String,
}

/// What a server is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeldTo {
    /// The certificate that was imported for it, by its fingerprint.
    Imported(String),
    /// One that the system vouches for, as it did when the server was first met.
    Vouched,
}

impl Met {
    fn held_to(&self, server: &str) -> Option<HeldTo> {
        if self.vouched_for.contains(server) {
            return Some(HeldTo::Vouched);
        }
        let import = self.servers.get(server)?;
        Some(HeldTo::Imported(import.sha256.clone()))
    }
}

/// Another certificate than the server is held to.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(super) server: String,
    pub(super) held_to: HeldTo,
    /// The fingerprint of the one that it showed.
    pub(super) shown: String,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, shown, .. } = self;
        match &self.held_to {
            HeldTo::Imported(imported) => write!(
                f,
                "{server} shows another certificate, SHA-256 {shown}, than the one that was imported for it, {imported}"
            ),
            HeldTo::Vouched => write!(
                f,
                "{server} shows a certificate that the system does not vouch for, SHA-256 {shown}, and showed one \
                 that it does when it was first met"
            ),
        }?;
        f.write_str("; if it has been replaced by its owner, clear the connection's trust")
    }
}

impl std::error::Error for Replaced {}

/// The SHA-256 fingerprint of a certificate.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TrustFile {
    /// The key that they are stored under.
    fn key(&self) -> String {
        format!("{}.trust", self.witness.connection)
    }

    async fn load(&self) -> Result<(Met, Option<u64>), StoreError> {
        match self.store.load(&self.key(), None).await? {
            Loaded::Entry(entry) => {
                let met = serde_json::from_slice(&entry.value)
                    .map_err(|error| StoreError::Corrupt(format!("{}: {error}", self.key())))?;
                Ok((met, Some(entry.version)))
            }
            Loaded::Absent | Loaded::Unchanged => Ok((Met::default(), None)),
        }
    }

    /// What a server is held to, where it was met before.
    pub(super) async fn held_to(&self, server: &str) -> Result<Option<HeldTo>, StoreError> {
        let (met, _) = self.load().await?;
        Ok(met.held_to(server))
    }

    /// Writes down how a server was first met. Where another process met it
    /// meanwhile, that holds: gives what holds.
    async fn meet(&self, server: &str, shown: &Shown) -> Result<HeldTo, StoreError> {
        loop {
            let (mut met, version) = self.load().await?;
            if let Some(held_to) = met.held_to(server) {
                return Ok(held_to);
            }
            let held_to = if shown.vouched_for {
                met.vouched_for.insert(server.to_owned());
                HeldTo::Vouched
            } else {
                let sha256 = fingerprint(&shown.certificate);
                let import = Import {
                    sha256: sha256.clone(),
                    imported_at: crate::now(),
                    certificate: STANDARD.encode(&shown.certificate),
                };
                met.servers.insert(server.to_owned(), import);
                HeldTo::Imported(sha256)
            };
            let value = serde_json::to_vec_pretty(&met)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let swap = self
                .store
                .compare_and_swap(&self.key(), version, value, None)
                .await?;
            if let Swapped::Stored(_) = swap {
                return Ok(held_to);
            }
        }
    }

    fn tell(&self, server: &str, sha256: &str) {
        let message = format!(
            "imported the certificate of {server}, which the system does not vouch for: SHA-256 {sha256}"
        );
        self.witness.tell("certificate-imported", server, message);
    }

    /// Forgets how the servers were met.
    pub(crate) async fn clear(&self) -> Result<(), StoreError> {
        self.store.forget(&self.key()).await.map(drop)
    }
}

/// Judges what one server shows in one handshake.
#[derive(Debug)]
pub(super) struct Judge {
    /// The system's verifier, where the system has roots.
    system: Option<Arc<Verifier>>,
    /// The server, as host and port.
    server: String,
    /// What it is held to; nothing where it was never met.
    held_to: Option<HeldTo>,
    signatures: Anything,
    /// What was believed for want of anything to hold it against.
    unmet: Mutex<Option<Shown>>,
}

/// What a server showed that was never met before.
#[derive(Debug)]
struct Shown {
    certificate: CertificateDer<'static>,
    /// Whether the system vouches for it.
    vouched_for: bool,
}

impl Judge {
    /// For a server, by what it is held to.
    pub(super) fn new(
        server: String,
        held_to: Option<HeldTo>,
        system: Option<Arc<Verifier>>,
    ) -> Self {
        Self {
            system,
            server,
            held_to,
            signatures: Anything::new(),
            unmet: Mutex::default(),
        }
    }

    /// Writes down how a server was met that was not before. To be called before
    /// anything is sent over the connection.
    pub(super) async fn conclude(&self, trust: &TrustFile) -> Result<(), BoxError> {
        let unmet = self
            .unmet
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(shown) = unmet else {
            return Ok(());
        };
        let held_to = trust.meet(&self.server, &shown).await.map_err(unstored)?;
        let sha256 = fingerprint(&shown.certificate);
        self.hold_to(&held_to, &sha256, || shown.vouched_for)?;
        if !shown.vouched_for {
            trust.tell(&self.server, &sha256);
        }
        Ok(())
    }

    /// Holds what was shown, by its fingerprint, against what the server is held to.
    fn hold_to(
        &self,
        held_to: &HeldTo,
        shown: &str,
        vouched_for: impl FnOnce() -> bool,
    ) -> Result<(), Replaced> {
        let holds = match held_to {
            HeldTo::Imported(imported) => imported == shown,
            HeldTo::Vouched => vouched_for(),
        };
        if holds {
            return Ok(());
        }
        Err(Replaced {
            server: self.server.clone(),
            held_to: held_to.clone(),
            shown: shown.to_owned(),
        })
    }
}

/// A store's failure, as the failure to connect that it is here.
pub(super) fn unstored(error: StoreError) -> BoxError {
    let (StoreError::Unavailable(text) | StoreError::Denied(text) | StoreError::Corrupt(text)) =
        error;
    format!("how its servers were first met: {text}").into()
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let vouched_for = || {
            self.system.as_ref().is_some_and(|system| {
                system
                    .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                    .is_ok()
            })
        };
        let Some(held_to) = &self.held_to else {
            let mut unmet = self.unmet.lock().unwrap_or_else(PoisonError::into_inner);
            *unmet = Some(Shown {
                certificate: end_entity.clone().into_owned(),
                vouched_for: vouched_for(),
            });
            return Ok(ServerCertVerified::assertion());
        };
        self.hold_to(held_to, &fingerprint(end_entity), vouched_for)
            .map_err(|replaced| CertificateError::Other(OtherError(Arc::new(replaced))))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

/// Takes any certificate for the server's. That the server has the key to it is
/// checked all the same.
#[derive(Debug)]
pub(super) struct Anything(WebPkiSupportedAlgorithms);

impl Anything {
    pub(super) fn new() -> Self {
        Self(ring::default_provider().signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Event;
    use crate::store::MemoryStore;

    fn trust_in(store: &MemoryStore) -> TrustFile {
        TrustFile {
            store: Arc::new(store.clone()),
            witness: Witness {
                connection: "shop".into(),
                events: Arc::new(|_: Event| {}),
            },
        }
    }

    /// A judge of a server that was just met.
    fn just_met(certificate: &'static [u8], vouched_for: bool) -> Judge {
        let judge = Judge::new("as.example:443".to_owned(), None, None);
        *judge.unmet.lock().unwrap() = Some(Shown {
            certificate: certificate.into(),
            vouched_for,
        });
        judge
    }

    async fn stored(store: &MemoryStore) -> serde_json::Value {
        match store.load("shop.trust", None).await.unwrap() {
            Loaded::Entry(entry) => serde_json::from_slice(&entry.value).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_server_is_held_to_how_another_process_met_it_just_now() {
        for (theirs, ours, holds) in [
            ((b"one", true), (b"one", false), false),
            ((b"one", true), (b"two", true), true),
            ((b"one", false), (b"two", false), false),
            ((b"one", false), (b"two", true), false),
            ((b"one", false), (b"one", true), true),
        ] {
            let trust = trust_in(&MemoryStore::new());
            let they = just_met(theirs.0, theirs.1);
            they.conclude(&trust).await.unwrap();
            let concluded = just_met(ours.0, ours.1).conclude(&trust).await;
            assert_eq!(concluded.is_ok(), holds, "{theirs:?} {ours:?}");
        }
    }

    #[tokio::test]
    async fn an_entry_that_knows_of_no_vouching_is_read_and_added_to() {
        let store = MemoryStore::new();
        let import = serde_json::json!({"sha256": "00ff", "imported_at": 1, "certificate": "AA=="});
        let earlier = serde_json::json!({"servers": {"own.example:443": import}});
        let value = serde_json::to_vec(&earlier).unwrap();
        store
            .compare_and_swap("shop.trust", None, value, None)
            .await
            .unwrap();
        let trust = trust_in(&store);
        let held_to = trust.held_to("own.example:443").await.unwrap();
        assert_eq!(held_to, Some(HeldTo::Imported("00ff".to_owned())));
        assert_eq!(trust.held_to("as.example:443").await.unwrap(), None);

        just_met(b"one", true).conclude(&trust).await.unwrap();
        let held_to = trust.held_to("as.example:443").await.unwrap();
        assert_eq!(held_to, Some(HeldTo::Vouched));
        let now = stored(&store).await;
        assert_eq!(now["servers"], earlier["servers"]);
        assert_eq!(now["vouched_for"], serde_json::json!(["as.example:443"]));
    }
}
