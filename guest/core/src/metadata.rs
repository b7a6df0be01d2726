//! The authorization server: its metadata (RFC 8414, OpenID Connect Discovery),
//! overlaid with what the config names by hand.

use crate::config::{ClientAuthentication, Config, EndpointUrls, Grant};
use crate::dialect::Field;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ViolationKind};
use crate::json::{self, Object, Stored, stored_fields};
use serde_json::Value;

/// What is known of an authorization server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// `issuer`, where there is one.
    pub issuer: Option<String>,
    /// The endpoints.
    pub endpoints: EndpointUrls,
    /// `mtls_endpoint_aliases`: the endpoints for a client that shows a TLS
    /// certificate (RFC 8705 section 5).
    pub mtls_endpoints: EndpointUrls,
    /// `registration_endpoint` (RFC 7591).
    pub registration_endpoint: Option<String>,
    /// `token_endpoint_auth_methods_supported`, as far as known here.
    pub client_authentication: Vec<String>,
    /// `token_endpoint_auth_signing_alg_values_supported`.
    pub signing_algorithms: Vec<String>,
    /// `id_token_signing_alg_values_supported`.
    pub id_token_algorithms: Vec<String>,
    /// `dpop_signing_alg_values_supported` (RFC 9449 section 5.1).
    pub proof_algorithms: Vec<String>,
    /// `request_object_signing_alg_values_supported` (RFC 9101 section 10.5).
    pub request_algorithms: Vec<String>,
    /// `scopes_supported`; `None` where the server does not say.
    pub scopes: Option<Vec<String>>,
    /// `authorization_response_iss_parameter_supported` (RFC 9207 section 3).
    pub sends_issuer: bool,
    /// `require_pushed_authorization_requests` (RFC 9126 section 5).
    pub requires_pushed_authorization: bool,
    /// `require_signed_request_object` (RFC 9101 section 10.5).
    pub requires_signed_requests: bool,
}

stored_fields!(Server {
    issuer,
    endpoints,
    mtls_endpoints,
    registration_endpoint,
    client_authentication,
    signing_algorithms,
    id_token_algorithms,
    proof_algorithms,
    request_algorithms,
    scopes,
    sends_issuer,
    requires_pushed_authorization,
    requires_signed_requests,
});

impl Stored for EndpointUrls {
    fn store(&self) -> Value {
        let mut object = Object::new();
        for (name, url) in self.iter() {
            json::put(&mut object, name, url.store());
        }
        Value::Object(object)
    }

    fn restore(value: &Value) -> Option<Self> {
        let mut urls = Self::default();
        // An earlier version stored fewer sets of them.
        if value.is_null() {
            return Some(urls);
        }
        let object = value.as_object()?;
        for (name, url) in urls.iter_mut() {
            *url = Stored::restore(json::field(object, name))?;
        }
        Some(urls)
    }
}

impl Server {
    /// The server as the config and its provider alone have it. An issuer named by
    /// hand is another server, which merely speaks as the provider does.
    pub fn from_config(config: &Config) -> Self {
        let mut server = Self::default();
        let dialect = &config.dialect;
        if config.issuer.is_none() {
            let declared = |field| dialect.get(field).map(str::to_owned);
            server.issuer = declared(Field::ISSUER);
            for (place, (_, url)) in server.endpoints.iter_mut().enumerate() {
                *url = declared(Field::of_endpoint(place));
            }
        }
        server.overlaid_with(config)
    }

    /// The server with what the config names by hand in place of what was
    /// discovered, and for a client with a TLS certificate at the endpoints that
    /// are for such.
    #[must_use]
    pub fn overlaid_with(mut self, config: &Config) -> Self {
        if config.issuer.is_some() {
            self.issuer.clone_from(&config.issuer);
        }
        if config.client_certificate.is_some() {
            put_over(&mut self.endpoints, &self.mtls_endpoints);
        }
        if config.issuer.is_none() {
            self.follow(&config.endpoints.token);
        }
        put_over(&mut self.endpoints, &config.endpoints);
        self
    }

    /// Goes along to the server of a token endpoint by hand, where it is another
    /// than the provider's: what one server issued is shown to no other. Where the
    /// user is sent and whose id_tokens are believed stays: nothing is shown there.
    fn follow(&mut self, token_endpoint: &Option<String>) {
        let parsed = |url: &Option<String>| Endpoint::parse(url.as_ref()?).ok();
        let endpoints = &mut self.endpoints;
        let (Some(own), Some(by_hand)) = (parsed(&endpoints.token), parsed(token_endpoint)) else {
            return;
        };
        if own == own.on_server_of(&by_hand) {
            return;
        }
        for url in [
            &mut endpoints.revocation,
            &mut endpoints.introspection,
            &mut endpoints.userinfo,
            &mut endpoints.device_authorization,
            &mut endpoints.pushed_authorization_request,
        ] {
            let moved = parsed(url).map(|url| url.on_server_of(&by_hand));
            *url = moved.map(|url| url.to_string());
        }
    }

    /// Whether it has the endpoints that a grant cannot do without.
    pub fn suffices_for(&self, grant: &Grant) -> bool {
        let endpoints = &self.endpoints;
        endpoints.token.is_some()
            && match grant {
                Grant::AuthorizationCode => endpoints.authorization.is_some(),
                Grant::DeviceCode => endpoints.device_authorization.is_some(),
                _ => true,
            }
    }

    /// Where the user is sent.
    ///
    /// # Errors
    /// The metadata names none.
    pub fn authorization_endpoint(&self) -> Result<Endpoint> {
        endpoint("authorization_endpoint", &self.endpoints.authorization)
    }

    /// Where tokens are had.
    ///
    /// # Errors
    /// The metadata names none.
    pub fn token_endpoint(&self) -> Result<Endpoint> {
        endpoint("token_endpoint", &self.endpoints.token)
    }

    /// An endpoint that servers need not have, by its registered name.
    ///
    /// # Errors
    /// Unsupported, where neither config nor metadata names one.
    pub fn optional_endpoint(&self, name: &str) -> Result<Endpoint> {
        let mut all = self.endpoints.iter();
        match all.find(|(other, _)| *other == name) {
            Some((_, url @ Some(_))) => endpoint(name, url),
            _ => Err(Error::unsupported(format!(
                "the server is not known to have a {name}; if it has one, name it in the configuration"
            ))),
        }
    }

    /// Whether the server is known to offer a way of client authentication. A
    /// server that does not say offers Basic (RFC 8414 section 2).
    pub fn offers(&self, method: ClientAuthentication) -> bool {
        if self.client_authentication.is_empty() {
            return method == ClientAuthentication::ClientSecretBasic;
        }
        self.client_authentication
            .iter()
            .any(|name| name == method.as_str())
    }
}

/// Puts the endpoints that are named in place of others.
fn put_over(urls: &mut EndpointUrls, named: &EndpointUrls) {
    for ((_, url), (_, named)) in urls.iter_mut().zip(named.iter()) {
        if named.is_some() {
            url.clone_from(named);
        }
    }
}

pub(crate) fn endpoint(name: &str, url: &Option<String>) -> Result<Endpoint> {
    let violation = |what: &str| {
        let message = format!("the server's metadata: {name} {what}");
        Error::violation(ViolationKind::Metadata, message)
    };
    let text = url.as_deref().ok_or_else(|| violation("is missing"))?;
    Endpoint::parse(text).map_err(violation)
}

/// Where the metadata of an issuer may be, the likeliest first: OpenID Connect
/// Discovery section 4, then RFC 8414 section 3.1, which differ where the issuer
/// has a path.
pub fn discovery_urls(issuer: &Endpoint) -> Vec<Endpoint> {
    let path = issuer.path().trim_end_matches('/');
    vec![
        issuer.at(format!("{path}/.well-known/openid-configuration")),
        issuer.at(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

/// Reads the metadata that was fetched for an issuer.
///
/// # Errors
/// It is no JSON object, its `issuer` is not exactly the one asked for (RFC
/// 8414 section 3.3), or an endpoint may not be used.
pub fn parse(issuer: &str, body: &[u8]) -> Result<Server> {
    let violation = |message: String| Error::violation(ViolationKind::Metadata, message);
    let fields = json::parse_object(body)
        .map_err(|what| violation(format!("the metadata of {issuer} cannot be read: {what}")))?;
    match fields.get("issuer") {
        Some(Value::String(found)) if found == issuer => {}
        Some(Value::String(found)) => {
            let mend = match found.contains('{') {
                true => {
                    "put the value, such as your tenant, in the place of what is in braces there, and set issuer to that"
                }
                false => "if that is the server meant, set issuer to it",
            };
            return Err(violation(format!(
                "the metadata fetched for the issuer {issuer} is that of {found:.200}; {mend}"
            )));
        }
        _ => {
            return Err(violation(format!(
                "the metadata of {issuer} names no issuer"
            )));
        }
    }
    let strings = |name: &str| {
        let values = fields.get(name).and_then(Value::as_array)?;
        let texts = values.iter().filter_map(Value::as_str);
        Some(texts.map(str::to_owned).collect::<Vec<_>>())
    };
    let is_true = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    let url = |fields: &Object, name: &str| -> Result<_> {
        let Some(text) = fields.get(name).and_then(Value::as_str) else {
            return Ok(None);
        };
        Endpoint::parse(text)
            .map_err(|what| violation(format!("the metadata of {issuer}: {name} {what}")))?;
        Ok(Some(text.to_owned()))
    };
    let urls = |fields: &Object| -> Result<_> {
        let mut endpoints = EndpointUrls::default();
        for (name, place) in endpoints.iter_mut() {
            *place = url(fields, name)?;
        }
        Ok(endpoints)
    };
    let none = Object::new();
    let mtls = fields.get("mtls_endpoint_aliases");
    Ok(Server {
        issuer: Some(issuer.to_owned()),
        endpoints: urls(&fields)?,
        mtls_endpoints: urls(mtls.and_then(Value::as_object).unwrap_or(&none))?,
        registration_endpoint: url(&fields, "registration_endpoint")?,
        client_authentication: strings("token_endpoint_auth_methods_supported").unwrap_or_default(),
        signing_algorithms: strings("token_endpoint_auth_signing_alg_values_supported")
            .unwrap_or_default(),
        id_token_algorithms: strings("id_token_signing_alg_values_supported").unwrap_or_default(),
        proof_algorithms: strings("dpop_signing_alg_values_supported").unwrap_or_default(),
        request_algorithms: strings("request_object_signing_alg_values_supported")
            .unwrap_or_default(),
        scopes: strings("scopes_supported"),
        sends_issuer: is_true("authorization_response_iss_parameter_supported"),
        requires_pushed_authorization: is_true("require_pushed_authorization_requests"),
        requires_signed_requests: is_true("require_signed_request_object"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unboxed as _;

    fn urls(issuer: &str) -> Vec<String> {
        let issuer = Endpoint::parse(issuer).expect("an endpoint");
        let urls = discovery_urls(&issuer);
        urls.iter().map(|url| url.to_string()).collect()
    }

    fn kind(result: Result<Server>) -> ViolationKind {
        match result.unboxed() {
            Err(Error::ProtocolViolation(violation)) => violation.kind,
            other => panic!("{other:?}"),
        }
    }

    /// Shows: RFC 8414.
    #[test]
    fn the_well_known_path_is_put_before_an_issuers_path_by_rfc_8414() {
        assert_eq!(
            urls("https://example.com/issuer1"),
            [
                "https://example.com/issuer1/.well-known/openid-configuration",
                "https://example.com/.well-known/oauth-authorization-server/issuer1",
            ]
        );
    }

    #[test]
    fn a_trailing_slash_of_the_issuer_is_left_out() {
        assert_eq!(
            urls("https://example.com/"),
            [
                "https://example.com/.well-known/openid-configuration",
                "https://example.com/.well-known/oauth-authorization-server",
            ]
        );
    }

    #[test]
    fn metadata_of_another_issuer_is_refused() {
        let body =
            br#"{"issuer": "https://as.example/", "token_endpoint": "https://as.example/t"}"#;
        assert_eq!(
            kind(parse("https://as.example", body)),
            ViolationKind::Metadata
        );
    }

    #[test]
    fn an_issuer_with_a_placeholder_is_told_to_be_filled_in() {
        let told = |found: &str| {
            let body = format!(r#"{{"issuer": "https://as.example/{found}/v2.0"}}"#);
            let refused = parse("https://as.example/common/v2.0", body.as_bytes());
            refused.expect_err("it is another").to_string()
        };
        let filled = "put the value, such as your tenant, in the place of what is in braces";
        assert!(told("{tenantid}").contains(filled));
        assert!(told("t").contains("set issuer to it"));
        assert!(!told("t").contains(filled));
    }

    #[test]
    fn metadata_without_issuer_is_refused() {
        let body = br#"{"token_endpoint": "https://as.example/t"}"#;
        assert_eq!(
            kind(parse("https://as.example", body)),
            ViolationKind::Metadata
        );
    }

    #[test]
    fn an_endpoint_of_another_scheme_is_refused() {
        for url in [
            "http://as.example/t",
            "file:///etc/passwd",
            "data:,x",
            "//as.example/t",
        ] {
            let body = format!(r#"{{"issuer": "https://as.example", "token_endpoint": "{url}"}}"#);
            assert_eq!(
                kind(parse("https://as.example", body.as_bytes())),
                ViolationKind::Metadata
            );
        }
    }

    #[test]
    fn what_the_config_names_goes_before_what_is_discovered() {
        let body = br#"{"issuer": "https://as.example", "token_endpoint": "https://as.example/t",
            "revocation_endpoint": "https://as.example/r"}"#;
        let mut config = Config {
            issuer: Some("https://as.example".to_owned()),
            ..Config::default()
        };
        config.endpoints.token = Some("https://proxy.example/t".to_owned());
        let server = parse("https://as.example", body)
            .expect("metadata")
            .overlaid_with(&config);
        assert_eq!(
            server.endpoints.token.as_deref(),
            Some("https://proxy.example/t")
        );
        assert_eq!(
            server.endpoints.revocation.as_deref(),
            Some("https://as.example/r")
        );
    }

    /// Shows: RFC 8705.
    #[test]
    fn a_client_with_a_certificate_goes_to_the_endpoints_for_such() {
        // RFC 8705 section 5.
        let body = br#"{"issuer": "https://as.example", "token_endpoint": "https://as.example/t",
            "revocation_endpoint": "https://as.example/r",
            "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.as.example/t"}}"#;
        let server = parse("https://as.example", body).expect("metadata");
        let token_endpoint = |config: &Config| {
            let server = server.clone().overlaid_with(config);
            assert_eq!(
                server.endpoints.revocation.as_deref(),
                Some("https://as.example/r")
            );
            server.endpoints.token
        };
        let mut config = Config::default();
        assert_eq!(
            token_endpoint(&config).as_deref(),
            Some("https://as.example/t")
        );
        config.client_certificate = Some("file:cert.pem".to_owned());
        assert_eq!(
            token_endpoint(&config).as_deref(),
            Some("https://mtls.as.example/t")
        );
    }

    #[test]
    fn an_alias_of_another_scheme_is_refused() {
        let body = br#"{"issuer": "https://as.example",
            "mtls_endpoint_aliases": {"token_endpoint": "file:///etc/passwd"}}"#;
        assert_eq!(
            kind(parse("https://as.example", body)),
            ViolationKind::Metadata
        );
    }

    #[test]
    fn a_server_is_stored_and_read_back_the_same() {
        let body = br#"{"issuer": "https://as.example", "token_endpoint": "https://as.example/t",
            "jwks_uri": "https://as.example/jwks", "scopes_supported": ["openid"],
            "authorization_response_iss_parameter_supported": true,
            "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.as.example/token"},
            "registration_endpoint": "https://as.example/register",
            "require_signed_request_object": true,
            "dpop_signing_alg_values_supported": ["ES256"],
            "request_object_signing_alg_values_supported": ["PS256"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"]}"#;
        let server = parse("https://as.example", body).expect("metadata");
        assert_eq!(Server::restore(&server.store()), Some(server));
    }

    #[test]
    fn a_server_that_an_earlier_version_stored_is_read() {
        let mut stored = Server::default().store();
        let fields = stored.as_object_mut().expect("an object");
        fields.retain(|name, _| !name.ends_with("_algorithms"));
        assert_eq!(Server::restore(&stored), Some(Server::default()));
    }

    #[test]
    fn a_server_that_does_not_say_offers_basic() {
        let server = Server::default();
        assert!(server.offers(ClientAuthentication::ClientSecretBasic));
        assert!(!server.offers(ClientAuthentication::ClientSecretPost));
    }
}
