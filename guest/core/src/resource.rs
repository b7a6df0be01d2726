//! A protected resource's metadata (RFC 9728): from a resource to the
//! authorization servers that it takes tokens of.

use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ViolationKind};
use crate::json::{self, Object};
use serde_json::Value;

/// Where the metadata of a resource may be, the likeliest first, each with the
/// resource that it is of (RFC 9728 section 3.1): that of the URL itself, then
/// that of the whole server.
pub(crate) fn metadata_urls(resource: &Endpoint) -> Vec<Endpoint> {
    const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
    let path = resource.path().trim_end_matches('/');
    let mut urls = vec![resource.at(format!("{WELL_KNOWN}{path}"))];
    if !path.is_empty() {
        urls.push(resource.at(WELL_KNOWN.to_owned()));
    }
    urls
}

/// Reads the metadata that was found for a URL.
///
/// # Errors
/// It is no JSON object, is not of the resource that the URL belongs to, or
/// names no authorization server.
pub(crate) fn parse(url: &Endpoint, body: &[u8]) -> Result<Object> {
    let violation = |what: &str| {
        let host = url.host();
        Err(Error::violation(
            ViolationKind::Metadata,
            format!("the metadata of the resource at {host} {what}"),
        ))
    };
    let metadata = match json::parse_object(body) {
        Ok(metadata) => metadata,
        Err(what) => return violation(&format!("cannot be read: {what}")),
    };
    let resource = metadata.get("resource").and_then(Value::as_str);
    let Some(resource) = resource.and_then(|text| Endpoint::parse(text).ok()) else {
        return violation("names no resource");
    };
    if !contains(&resource, url) {
        return violation("is that of another resource");
    }
    let servers = metadata
        .get("authorization_servers")
        .and_then(Value::as_array);
    let is_usable = |server: &Value| {
        let text = server.as_str();
        text.is_some_and(|text| Endpoint::parse(text).is_ok())
    };
    if !servers.is_some_and(|servers| !servers.is_empty() && servers.iter().all(is_usable)) {
        return violation("names no authorization server, or one whose address cannot be used");
    }
    Ok(metadata)
}

/// Whether a URL is within a resource. RFC 9728 section 3.3 wants the resource to
/// be the very URL that was called; but one resource has many URLs, and on the
/// same server nobody else can be meant: a token for the resource that is named
/// goes to the server that named it.
fn contains(resource: &Endpoint, url: &Endpoint) -> bool {
    let path = resource.path().trim_end_matches('/');
    let rest = url.path().strip_prefix(path);
    resource.is_https() == url.is_https()
        && resource.authority() == url.authority()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unboxed as _;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::parse(url).expect("a URL")
    }

    /// Shows: RFC 9728.
    #[test]
    fn the_well_known_path_is_put_before_the_path_of_the_resource() {
        let urls = |url| {
            let urls = metadata_urls(&endpoint(url)).into_iter();
            urls.map(|url| url.to_string()).collect::<Vec<_>>()
        };
        // RFC 9728 section 3.1.
        assert_eq!(
            urls("https://resource.example.com/resource1?x=y"),
            [
                "https://resource.example.com/.well-known/oauth-protected-resource/resource1",
                "https://resource.example.com/.well-known/oauth-protected-resource",
            ]
        );
        assert_eq!(
            urls("https://resource.example.com/"),
            ["https://resource.example.com/.well-known/oauth-protected-resource"]
        );
    }

    fn parsed(url: &str, resource: &str, servers: &str) -> Option<ViolationKind> {
        let body = format!(r#"{{"resource": "{resource}", "authorization_servers": {servers}}}"#);
        match parse(&endpoint(url), body.as_bytes()).unboxed() {
            Ok(_) => None,
            Err(Error::ProtocolViolation(violation)) => Some(violation.kind),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn metadata_of_another_resource_is_refused() {
        let server = r#"["https://as.example"]"#;
        for (resource, refused) in [
            ("https://api.example/v1/notes", false),
            ("https://api.example/v1", false),
            ("https://api.example/", false),
            ("https://api.example", false),
            ("https://api.example/v2", true),
            ("https://api.example/v1/no", true),
            ("https://api.example:444/v1", true),
            ("https://evil.example/v1/notes", true),
        ] {
            let found = parsed("https://api.example/v1/notes", resource, server);
            assert_eq!(found.is_some(), refused, "{resource}");
            assert!(found.is_none_or(|kind| kind == ViolationKind::Metadata));
        }
    }

    #[test]
    fn metadata_without_a_usable_authorization_server_is_refused() {
        for servers in [
            "null",
            "[]",
            "[7]",
            r#"["file:///x"]"#,
            r#"["http://as.example"]"#,
        ] {
            assert_eq!(
                parsed("https://api.example/", "https://api.example/", servers),
                Some(ViolationKind::Metadata),
                "{servers}"
            );
        }
    }
}
