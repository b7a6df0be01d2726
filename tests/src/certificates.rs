//! Certificates for a server and its clients, in files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority (`ca.pem`), a server on 127.0.0.1 and a client that
/// it vouches for (`server`, `client`), and a client whose certificate is his own
/// (`self-signed`): each with its `.pem` and its `.key`. Of servers that nobody
/// should believe there are `own-server`, self-signed, its `successor`, `expired`
/// and `wrong-host`.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// Makes them.
    ///
    /// # Panics
    /// Where they cannot be made or written.
    pub fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = params("authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority
            .self_signed(&authority_key)
            .expect("a certificate");
        let issuer = Issuer::new(authority, authority_key);
        let made = Self { directory };
        made.write("ca.pem", &root.pem());
        for (name, names) in [
            ("server", vec![SanType::IpAddress([127, 0, 0, 1].into())]),
            ("client", vec![dns_name("client.example")]),
        ] {
            let key = KeyPair::generate().expect("a key");
            let certificate = params(name, &names).signed_by(&key, &issuer);
            made.put(name, &certificate.expect("a certificate"), &key);
        }
        let here = [SanType::IpAddress([127, 0, 0, 1].into())];
        let mut expired = params("expired", &here);
        expired.not_before = date_time_ymd(2020, 1, 1);
        expired.not_after = date_time_ymd(2021, 1, 1);
        let elsewhere = params("wrong-host", &[dns_name("elsewhere.example")]);
        for (name, params) in [("expired", expired), ("wrong-host", elsewhere)] {
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &issuer);
            made.put(name, &certificate.expect("a certificate"), &key);
        }
        for name in ["own-server", "successor"] {
            let key = KeyPair::generate().expect("a key");
            let own = params(name, &here).self_signed(&key);
            made.put(name, &own.expect("a certificate"), &key);
        }
        let key = KeyPair::generate().expect("a key");
        let own = params("self-signed", &[dns_name("self-signed.example")]);
        let own = own.self_signed(&key).expect("a certificate");
        made.put("self-signed", &own, &key);
        made
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, name: &str, certificate: &Certificate, key: &KeyPair) {
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("a file can be written");
    }
}

fn params(name: &str, names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names.to_vec();
    params
}

fn dns_name(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name in ASCII"))
}
