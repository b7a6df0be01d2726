//! How the client proves at the token endpoint who it is: exactly one way per
//! request, chosen beforehand and never probed for (RFC 6749 section 2.3).

use crate::base64::base64;
use crate::config::{BasicEncoding, ClientAuthentication, Config, Grant};
use crate::metadata::Server;
use crate::secret::SecretString;
use crate::token_request::Form;

/// The way that is used: the config's, else one that the server offers, else
/// Basic with a secret, by assertion with a key that is for nothing else, and none
/// without either.
pub fn choose(config: &Config, server: &Server) -> ClientAuthentication {
    use ClientAuthentication::{
        ClientSecretBasic, ClientSecretJwt, ClientSecretPost, None, PrivateKeyJwt,
        SelfSignedTlsClientAuth, TlsClientAuth,
    };
    if let Some(method) = config.client_authentication {
        return method;
    }
    if config.client_secret.is_some() {
        return match () {
            () if server.offers(ClientSecretBasic) => ClientSecretBasic,
            () if server.offers(ClientSecretPost) => ClientSecretPost,
            () if server.offers(ClientSecretJwt) => ClientSecretJwt,
            () => ClientSecretBasic,
        };
    }
    // Without an identifier the key is for the grant's assertion alone.
    if config.client_id.is_none() {
        return None;
    }
    let is_offered = match server.client_authentication.is_empty() {
        // What else should the key be for?
        true => config.client_certificate.is_none() && !signs_otherwise(config, server),
        false => server.offers(PrivateKeyJwt),
    };
    if config.signing_key.is_some() && is_offered {
        return PrivateKeyJwt;
    }
    if config.client_certificate.is_some() {
        return match () {
            () if server.offers(TlsClientAuth) => TlsClientAuth,
            () if server.offers(SelfSignedTlsClientAuth) => SelfSignedTlsClientAuth,
            () => None,
        };
    }
    None
}

/// Whether the config's key is for something else than to authenticate. The client
/// credentials grant is for clients that do (RFC 6749 section 4.4).
fn signs_otherwise(config: &Config, server: &Server) -> bool {
    match config.grant {
        Grant::ClientCredentials => false,
        Grant::JwtBearer {
            assertion: None, ..
        } => true,
        _ => config.dpop || config.signs_requests(server) || config.dialect.makes_secret(config),
    }
}

/// How long an assertion of the client lives, in seconds.
pub const ASSERTION_LIFETIME_SECONDS: u64 = 60;

/// Whom an assertion of the client is for: the issuer, where it is known, and
/// not the endpoint that it is sent to, lest a server that names another's
/// endpoint as its own can use the assertion there (RFC 7523 section 3 number 3,
/// as narrowed by its update of 2025). Where the endpoints are named by hand
/// there is no issuer, and it is the token endpoint.
pub fn assertion_audience(server: &Server) -> &str {
    let token_endpoint = server.endpoints.token.as_deref();
    server
        .issuer
        .as_deref()
        .or(token_endpoint)
        .unwrap_or_default()
}

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client that can authenticate once: identifier, proof, and the way.
#[derive(Debug)]
pub struct Client<'a> {
    /// `client_id`; absent only where the grant does without.
    pub id: Option<&'a str>,
    /// The secret, resolved.
    pub secret: Option<SecretString>,
    /// The assertion, made for this one request.
    pub assertion: Option<SecretString>,
    /// How it authenticates.
    pub method: ClientAuthentication,
    /// How Basic credentials are encoded.
    pub basic_encoding: BasicEncoding,
    /// The access token that is shown in place of all this, where the endpoint
    /// is one of the provider's API.
    pub access_token: Option<SecretString>,
}

impl Client<'_> {
    /// Adds what authenticates the client to the form or the headers of a
    /// request. With a TLS client certificate that is the identifier alone (RFC
    /// 8705 section 2): the rest is the host's handshake.
    pub fn authenticate(&self, form: &mut Form, headers: &mut Vec<(String, SecretString)>) {
        if let Some(token) = &self.access_token {
            headers.push(("authorization".to_owned(), bearer(token)));
            return;
        }
        if self.method == ClientAuthentication::ClientSecretBasic {
            let secret = self.secret.as_ref().map(SecretString::reveal);
            let (id, secret) = (self.id.unwrap_or_default(), secret.unwrap_or_default());
            let credentials = basic(id, secret, self.basic_encoding);
            headers.push(("authorization".to_owned(), credentials));
            return;
        }
        // A pushed authorization request has the identifier already.
        if let Some(id) = self.id
            && form.iter().all(|(name, _)| *name != "client_id")
        {
            form.push(("client_id", SecretString::new(id)));
        }
        match self.method {
            ClientAuthentication::ClientSecretPost => {
                let secret = self.secret.clone().unwrap_or_default();
                form.push(("client_secret", secret));
            }
            ClientAuthentication::ClientSecretJwt | ClientAuthentication::PrivateKeyJwt => {
                form.push(("client_assertion_type", SecretString::new(JWT_BEARER)));
                let assertion = self.assertion.clone().unwrap_or_default();
                form.push(("client_assertion", assertion));
            }
            ClientAuthentication::None
            | ClientAuthentication::ClientSecretBasic
            | ClientAuthentication::TlsClientAuth
            | ClientAuthentication::SelfSignedTlsClientAuth => {}
        }
    }
}

/// The value of the header that shows a bearer token (RFC 6750 section 2.1).
pub(crate) fn bearer(token: &SecretString) -> SecretString {
    SecretString::new(format!("Bearer {}", token.reveal()))
}

/// The Basic header's value (RFC 6749 section 2.3.1, RFC 7617).
pub(crate) fn basic(id: &str, secret: &str, encoding: BasicEncoding) -> SecretString {
    let pair = match encoding {
        BasicEncoding::FormUrlencoded => {
            let encode =
                |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            SecretString::new(format!("{}:{}", encode(id), encode(secret)))
        }
        BasicEncoding::Raw => SecretString::new(format!("{id}:{secret}")),
    };
    SecretString::new(format!("Basic {}", base64(pair.reveal().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(secret: bool) -> Config {
        Config {
            client_id: Some("id".to_owned()),
            client_secret: secret.then(|| Secret::Literal("s".to_owned().into())),
            ..Config::default()
        }
    }

    fn server(methods: &[&str]) -> Server {
        Server {
            client_authentication: methods.iter().map(|&name| name.to_owned()).collect(),
            ..Server::default()
        }
    }

    /// Shows: RFC 6749 section 2.3.1.
    #[test]
    fn basic_is_the_rfc_6749_example() {
        // RFC 6749 section 2.3.1.
        let header = basic(
            "s6BhdRkqt3",
            "7Fjfp0ZBr1KtDRbnfVdmIw",
            BasicEncoding::FormUrlencoded,
        );
        assert_eq!(
            header.reveal(),
            "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
        );
    }

    #[test]
    fn basic_is_form_encoded_first_unless_declared_raw() {
        let encoded = basic("odd:id", "p w%", BasicEncoding::FormUrlencoded);
        assert_eq!(
            encoded.reveal(),
            format!("Basic {}", base64(b"odd%3Aid:p+w%25"))
        );
        let raw = basic("id", "p w%", BasicEncoding::Raw);
        assert_eq!(raw.reveal(), format!("Basic {}", base64(b"id:p w%")));
    }

    #[test]
    fn a_secret_goes_by_basic_unless_the_server_offers_post_alone() {
        use ClientAuthentication::{ClientSecretBasic, ClientSecretPost};
        for (offered, chosen) in [
            (vec![], ClientSecretBasic),
            (vec!["client_secret_post"], ClientSecretPost),
            (
                vec!["client_secret_post", "client_secret_basic"],
                ClientSecretBasic,
            ),
            (vec!["private_key_jwt"], ClientSecretBasic),
        ] {
            assert_eq!(
                choose(&config(true), &server(&offered)),
                chosen,
                "{offered:?}"
            );
        }
    }

    #[test]
    fn without_a_secret_the_client_is_public() {
        assert_eq!(
            choose(&config(false), &server(&[])),
            ClientAuthentication::None
        );
    }

    #[test]
    fn a_key_or_a_certificate_is_used_where_the_server_offers_it() {
        use ClientAuthentication::{None, PrivateKeyJwt, SelfSignedTlsClientAuth, TlsClientAuth};
        let mut config = config(false);
        config.client_certificate = Some("file:cert.pem".to_owned());
        for (offered, chosen) in [
            ("client_secret_basic", None),
            ("tls_client_auth", TlsClientAuth),
            ("self_signed_tls_client_auth", SelfSignedTlsClientAuth),
        ] {
            assert_eq!(choose(&config, &server(&[offered])), chosen);
        }
        config.signing_key = Some("file:key.pem".to_owned());
        let server = server(&["private_key_jwt"]);
        assert_eq!(choose(&config, &server), PrivateKeyJwt);
        config.client_id = Option::None;
        assert_eq!(choose(&config, &server), None);
    }

    #[test]
    fn an_assertion_is_for_the_issuer_and_for_the_token_endpoint_where_there_is_none() {
        let mut server = server(&[]);
        server.endpoints.token = Some("https://as.example/token".to_owned());
        assert_eq!(assertion_audience(&server), "https://as.example/token");
        server.issuer = Some("https://as.example".to_owned());
        assert_eq!(assertion_audience(&server), "https://as.example");
    }

    #[test]
    fn there_is_exactly_one_authentication_in_a_request() {
        use ClientAuthentication::*;
        let jwt = vec!["client_id", "client_assertion_type", "client_assertion"];
        for (method, in_form, in_headers) in [
            (None, vec!["client_id"], 0),
            (ClientSecretBasic, vec![], 1),
            (ClientSecretPost, vec!["client_id", "client_secret"], 0),
            (ClientSecretJwt, jwt.clone(), 0),
            (PrivateKeyJwt, jwt, 0),
            (TlsClientAuth, vec!["client_id"], 0),
            (SelfSignedTlsClientAuth, vec!["client_id"], 0),
        ] {
            let client = Client {
                id: Some("id"),
                secret: Some(SecretString::new("s")),
                assertion: Some(SecretString::new("a.b.c")),
                method,
                basic_encoding: BasicEncoding::FormUrlencoded,
                access_token: Option::None,
            };
            let (mut form, mut headers) = (Vec::new(), Vec::new());
            client.authenticate(&mut form, &mut headers);
            let names: Vec<_> = form.iter().map(|(name, _)| *name).collect();
            assert_eq!((names, headers.len()), (in_form, in_headers), "{method}");
        }
    }
}
