//! How the certificates of servers are judged: by the system's roots, by what was
//! imported on first use, or not at all.

use std::collections::BTreeMap;
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
    /// By the system's roots, and where they know it not, by what was imported
    /// when the server was first met.
    Trusted(TrustFile),
    /// Not at all.
    Anything,
}

/// Where the certificates imported for one connection are.
#[derive(Clone)]
pub(crate) struct TrustFile {
    pub(crate) store: Arc<dyn TokenStore>,
    /// The connection that they are for, and who is told of each import.
    pub(crate) witness: Witness,
}

/// The certificates imported for a connection, by host and port.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Imported {
    servers: BTreeMap<String, Import>,
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

/// Another certificate than the one that was imported.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) server: String,
    pub(crate) imported: String,
    pub(crate) shown: String,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} shows another certificate, SHA-256 {}, than the one that was imported for it, {}; if it has been \
             replaced by its owner, clear the connection's trust",
            self.server, self.shown, self.imported
        )
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

    async fn load(&self) -> Result<(Imported, Option<u64>), StoreError> {
        match self.store.load(&self.key(), None).await? {
            Loaded::Entry(entry) => {
                let imported = serde_json::from_slice(&entry.value)
                    .map_err(|error| StoreError::Corrupt(format!("{}: {error}", self.key())))?;
                Ok((imported, Some(entry.version)))
            }
            Loaded::Absent | Loaded::Unchanged => Ok((Imported::default(), None)),
        }
    }

    /// The fingerprint of what was imported for a server.
    pub(super) async fn imported(&self, server: &str) -> Result<Option<String>, StoreError> {
        let (imported, _) = self.load().await?;
        Ok(imported
            .servers
            .get(server)
            .map(|import| import.sha256.clone()))
    }

    /// Imports a certificate. Where another process imported one meanwhile, that
    /// one holds: gives the one that holds.
    async fn import(
        &self,
        server: &str,
        certificate: &CertificateDer<'_>,
    ) -> Result<String, StoreError> {
        loop {
            let (mut imported, version) = self.load().await?;
            if let Some(import) = imported.servers.get(server) {
                return Ok(import.sha256.clone());
            }
            let sha256 = fingerprint(certificate);
            let import = Import {
                sha256: sha256.clone(),
                imported_at: crate::now(),
                certificate: STANDARD.encode(certificate),
            };
            imported.servers.insert(server.to_owned(), import);
            let value = serde_json::to_vec_pretty(&imported)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let swap = self
                .store
                .compare_and_swap(&self.key(), version, value, None)
                .await?;
            if let Swapped::Stored(_) = swap {
                return Ok(sha256);
            }
        }
    }

    fn tell(&self, server: &str, sha256: &str) {
        let message = format!(
            "imported the certificate of {server}, which the system does not vouch for: SHA-256 {sha256}"
        );
        self.witness.tell("certificate-imported", server, message);
    }

    /// Forgets what was imported.
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
    /// The fingerprint of what was imported for it.
    imported: Option<String>,
    signatures: Anything,
    /// What was believed for want of anything to hold it against.
    unknown: Mutex<Option<CertificateDer<'static>>>,
}

impl Judge {
    /// For a server, by what was imported for it before.
    pub(super) fn new(
        server: String,
        imported: Option<String>,
        system: Option<Arc<Verifier>>,
    ) -> Self {
        Self {
            system,
            server,
            imported,
            signatures: Anything::new(),
            unknown: Mutex::default(),
        }
    }

    /// Imports what was shown and not known. To be called before anything is sent
    /// over the connection.
    pub(super) async fn conclude(&self, trust: &TrustFile) -> Result<(), BoxError> {
        let unknown = self
            .unknown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(certificate) = unknown else {
            return Ok(());
        };
        let shown = fingerprint(&certificate);
        let imported = trust.import(&self.server, &certificate).await;
        let imported = imported.map_err(unstored)?;
        if imported == shown {
            trust.tell(&self.server, &shown);
            return Ok(());
        }
        Err(Box::new(Replaced {
            server: self.server.clone(),
            imported,
            shown,
        }))
    }
}

/// A store's failure, as the failure to connect that it is here.
pub(super) fn unstored(error: StoreError) -> BoxError {
    let (StoreError::Unavailable(text) | StoreError::Denied(text) | StoreError::Corrupt(text)) =
        error;
    format!("the imported certificates: {text}").into()
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
        if let Some(imported) = &self.imported {
            let shown = fingerprint(end_entity);
            if *imported == shown {
                return Ok(ServerCertVerified::assertion());
            }
            let replaced = Replaced {
                server: self.server.clone(),
                imported: imported.clone(),
                shown,
            };
            return Err(CertificateError::Other(OtherError(Arc::new(replaced))).into());
        }
        let known = self.system.as_ref().is_some_and(|system| {
            system
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .is_ok()
        });
        if !known {
            let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
            *unknown = Some(end_entity.clone().into_owned());
        }
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
