//! A certificate authority and what it certifies.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// PEM texts.
pub struct Certified {
    pub root: String,
    pub certificate: String,
    pub key: String,
}

/// A certificate for that name, and the root that vouches for it.
pub fn certify(name: &str) -> Certified {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    Certified {
        root: root_certificate.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}
