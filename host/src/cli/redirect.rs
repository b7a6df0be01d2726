//! Where a user is sent back to, as far as servers differ on what they accept.

use serde_json::Value;
use tokenwell::{Host, Problem, Provider, Severity};
use url::Url;

use super::authorize::is_of_this_machine;
use super::failure::Failure;

/// The redirect URI of the listener, the port left out (RFC 8252 section 7.3).
pub const ANY_PORT: &str = "http://127.0.0.1/oauth2";

/// One for those who want to know the port.
pub const WITH_PORT: &str = "http://127.0.0.1:8765/oauth2";

/// What a provider accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Any port of a loopback address, as far as is known.
    AnyPort,
    /// What is registered, with its port.
    AsRegistered,
    /// None on this machine.
    Https,
}

impl Accepted {
    /// As the catalogue tells it of a provider: in a sentence.
    pub fn by(provider: &Provider) -> Self {
        let says = |beginning: &str| {
            let mut sentences = provider.peculiarities.iter();
            sentences.any(|sentence| sentence.starts_with(beginning))
        };
        if says("The redirect URI must be registered as it is, port included") {
            Self::AsRegistered
        } else if says("Only https redirect URIs are accepted") {
            Self::Https
        } else {
            Self::AnyPort
        }
    }

    /// The same of the provider that a config names.
    ///
    /// # Errors
    /// What the library said.
    pub async fn by_provider_of(host: &Host, document: &Value) -> Result<Self, Failure> {
        let Some(id) = document.get("provider").and_then(Value::as_str) else {
            return Ok(Self::AnyPort);
        };
        let provider = host.show_provider(id).await;
        let provider = provider.map_err(|error| Failure::of(error, None))?;
        Ok(provider.as_ref().map_or(Self::AnyPort, Self::by))
    }
}

/// Whether a redirect URI leads to this machine and names no port, so that any
/// free one is put in.
pub fn lacks_port(uri: &str) -> bool {
    is_of_this_machine(uri)
        && uri
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.port().is_none())
}

/// The same with a port in it.
pub fn with_port(uri: &str) -> String {
    let mut url = match Url::parse(uri) {
        Ok(url) => url,
        Err(_) => return WITH_PORT.to_owned(),
    };
    // Only a URL without a host has no place for one.
    let _ = url.set_port(Some(8765));
    url.into()
}

/// What is wrong with the redirect URI of a config for its provider.
///
/// # Errors
/// What the library said.
pub async fn problem(host: &Host, document: &Value) -> Result<Option<Problem>, Failure> {
    let text = |field: &str| document.get(field).and_then(Value::as_str);
    if text("grant_type").is_some_and(|grant| grant != "authorization_code") {
        return Ok(None);
    }
    let given = text("redirect_uri");
    let (message, mend) = match Accepted::by_provider_of(host, document).await? {
        Accepted::AsRegistered if given.is_none_or(lacks_port) => (
            "names no port: the provider accepts a redirect URI only as it is registered, port included",
            format!(
                "register {}, say, and set the same here",
                with_port(given.unwrap_or(ANY_PORT))
            ),
        ),
        Accepted::Https if given.is_none_or(|uri| uri.starts_with("http:")) => (
            "is not https: the provider accepts no other",
            "register an https URL, and set the same here".to_owned(),
        ),
        _ => return Ok(None),
    };
    Ok(Some(Problem {
        field: "redirect_uri".to_owned(),
        severity: Severity::Warning,
        message: message.to_owned(),
        mend,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_to_this_machine_without_a_port_gets_any() {
        for uri in [
            "http://127.0.0.1/cb",
            "http://localhost/cb",
            "http://[::1]/",
        ] {
            assert!(lacks_port(uri), "{uri}");
        }
        for uri in [
            "http://127.0.0.1:8765/cb",
            "http://127.0.0.1:80/cb",
            "http://[::1]:80/",
            "https://app.example/cb",
        ] {
            assert!(!lacks_port(uri), "{uri}");
        }
        assert_eq!(with_port("http://localhost/cb"), "http://localhost:8765/cb");
        assert_eq!(with_port(ANY_PORT), WITH_PORT);
    }
}
