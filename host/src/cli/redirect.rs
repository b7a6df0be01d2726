//! Where a user is sent back to, as far as servers differ on what they accept.

use serde_json::Value;
use tokenwell::{Host, RedirectUris};
use url::Url;

use super::failure::Failure;

/// The redirect URI of the listener, the port left out (RFC 8252 section 7.3).
pub const ANY_PORT: &str = "http://127.0.0.1/oauth2";

/// One for those who want to know the port.
pub const WITH_PORT: &str = "http://127.0.0.1:8765/oauth2";

/// Which redirect URIs the provider that a config names accepts, as far as that is
/// known.
///
/// # Errors
/// What the library said.
pub async fn accepted(host: &Host, document: &Value) -> Result<Option<RedirectUris>, Failure> {
    let Some(id) = document.get("provider").and_then(Value::as_str) else {
        return Ok(None);
    };
    let provider = host.show_provider(id).await;
    let provider = provider.map_err(|error| Failure::of(error, None))?;
    Ok(provider.and_then(|provider| provider.redirect_uris))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_put_into_a_redirect_uri_where_it_belongs() {
        for (uri, with) in [
            ("http://localhost/cb", "http://localhost:8765/cb"),
            ("http://[::1]/", "http://[::1]:8765/"),
            (ANY_PORT, WITH_PORT),
        ] {
            assert_eq!(with_port(uri), with);
        }
    }
}
