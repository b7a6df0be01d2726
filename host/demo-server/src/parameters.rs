//! Request parameters in `application/x-www-form-urlencoded`.

use std::collections::{BTreeMap, BTreeSet};

/// The parameters of a request, each of which may come only once (RFC 6749
/// sections 3.1 and 3.2). One without a value counts as left out.
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
    repeated: BTreeSet<String>,
}

impl Parameters {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        let mut values = BTreeMap::new();
        let mut repeated = BTreeSet::new();
        for (name, value) in form_urlencoded::parse(encoded) {
            if value.is_empty() {
                continue;
            }
            let name = name.into_owned();
            if values.insert(name.clone(), value.into_owned()).is_some() {
                repeated.insert(name);
            }
        }
        Self { values, repeated }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.repeated.contains(name)
    }

    pub(crate) fn any_repeated(&self) -> bool {
        !self.repeated.is_empty()
    }
}
