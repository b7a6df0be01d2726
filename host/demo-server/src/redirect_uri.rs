//! Redirect URIs: registered ones, requested ones, and whether they agree.

/// Whether a requested redirect URI is the registered one: character for
/// character (RFC 9700 section 2.1), save that the port of a loopback address
/// may be any (RFC 8252 section 7.3).
pub(crate) fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    match (
        without_loopback_port(registered),
        without_loopback_port(requested),
    ) {
        (Some(registered), Some(requested)) => registered == requested,
        _ => false,
    }
}

/// Host and rest of an `http` URI to a loopback address.
fn without_loopback_port(uri: &str) -> Option<(&str, &str)> {
    let after_scheme = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]"]
        .into_iter()
        .find(|host| after_scheme.starts_with(host))?;
    let rest = after_scheme.strip_prefix(host)?;
    let rest = match rest.strip_prefix(':') {
        None => rest,
        Some(port_and_rest) => {
            let path = port_and_rest.find('/').unwrap_or(port_and_rest.len());
            let (port, rest) = port_and_rest.split_at(path);
            let port = port.bytes().all(|b| b.is_ascii_digit()).then_some(port)?;
            port.parse::<u16>().ok()?;
            rest
        }
    };
    (rest.is_empty() || rest.starts_with('/')).then_some((host, rest))
}

/// Scheme, host and port, as a Content-Security-Policy names a source.
pub(crate) fn origin(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        // A private-use scheme has no host (RFC 8252 section 7.1).
        return format!("{}:", uri.split(':').next().unwrap_or_default());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{authority}")
}

/// The redirect URI with the response's parameters (RFC 6749 section 4.1.2).
pub(crate) fn with_parameters(uri: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let separator = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{separator}{}", query.finish())
}

/// Whether a URI can be registered: absolute, no fragment (RFC 6749 section
/// 3.1.2), and nothing in it that could end a header or a policy.
pub(crate) fn is_registrable(uri: &str) -> bool {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.starts_with(|c: char| c.is_ascii_alphabetic()))
        && uri
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"#;,\"'<>\\".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERED: &str = "http://127.0.0.1/oauth2";

    #[test]
    fn a_loopback_address_matches_with_any_port() {
        assert!(matches(REGISTERED, "http://127.0.0.1:49152/oauth2"));
        assert!(matches("http://[::1]/oauth2", "http://[::1]:1/oauth2"));
    }

    #[test]
    fn another_path_does_not_match() {
        assert!(!matches(REGISTERED, "http://127.0.0.1:49152/oauth2/"));
        assert!(!matches(REGISTERED, "http://127.0.0.1:49152/oauth2?a=b"));
    }

    #[test]
    fn a_host_that_only_begins_like_a_loopback_address_does_not_match() {
        assert!(!matches(REGISTERED, "http://127.0.0.1.example/oauth2"));
        assert!(!matches(
            REGISTERED,
            "http://127.0.0.1:1@evil.example/oauth2"
        ));
        assert!(!matches(REGISTERED, "http://127.0.0.1:99999/oauth2"));
    }

    #[test]
    fn one_loopback_address_is_not_the_other() {
        assert!(!matches(REGISTERED, "http://[::1]:1/oauth2"));
        assert!(!matches(REGISTERED, "http://localhost:1/oauth2"));
    }

    #[test]
    fn the_port_of_any_other_host_counts() {
        let registered = "https://client.example/callback";
        assert!(matches(registered, registered));
        assert!(!matches(registered, "https://client.example:8443/callback"));
    }

    #[test]
    fn a_query_that_is_there_already_is_kept() {
        let uri = with_parameters("https://c.example/?a=b", &[("code", "x y")]);
        assert_eq!(uri, "https://c.example/?a=b&code=x+y");
    }

    #[test]
    fn a_uri_that_could_end_a_header_or_a_policy_cannot_be_registered() {
        for uri in [
            "https://c.example/#f",
            "https://c.example/;",
            "https://c.example/ x",
            "/path",
        ] {
            assert!(!is_registrable(uri), "{uri}");
        }
        assert!(is_registrable("https://c.example/callback?a=b"));
    }
}
