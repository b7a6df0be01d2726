//! The provider catalogue. It has no entries yet: every connection names its
//! issuer or its endpoints.

/// A provider of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// The identifier that a config names.
    pub id: &'static str,
    /// The name people know it by.
    pub name: &'static str,
}

/// Every provider, in the order of the identifiers.
pub fn all() -> &'static [Provider] {
    &[]
}

/// The provider of an identifier.
pub fn find(id: &str) -> Option<&'static Provider> {
    all().iter().find(|provider| provider.id == id)
}
