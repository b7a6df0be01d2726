//! TLS to the servers of stores: certificates are always verified, by the
//! system's roots or by a file of roots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
#[cfg(feature = "redis")]
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::TlsConnector;

use super::remote::Failure;

/// Whom a connection believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// Whom the system believes.
    System,
    /// Whoever a certificate in this PEM file vouches for.
    File(PathBuf),
}

/// Makes a TLS client. It reads the roots, which takes a moment.
pub(super) async fn connector(roots: &Roots, alpn: &[&[u8]]) -> Result<TlsConnector, Failure> {
    let roots = roots.clone();
    let config = tokio::task::spawn_blocking(move || config(&roots));
    let mut config = config
        .await
        .map_err(|error| Failure::unavailable(error.to_string()))??;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name that a server's certificate must have.
#[cfg(feature = "redis")]
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::denied("its host name is none that a certificate can have"))
}

fn config(roots: &Roots) -> Result<ClientConfig, Failure> {
    let unusable = |error: rustls::Error| Failure::denied(format!("no TLS: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    Ok(match roots {
        Roots::System => builder.with_platform_verifier().map_err(unusable)?,
        Roots::File(path) => builder.with_root_certificates(read(path)?),
    }
    .with_no_client_auth())
}

fn read(path: &Path) -> Result<RootCertStore, Failure> {
    let unusable =
        |what: String| Failure::denied(format!("the file of roots {}: {what}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}
