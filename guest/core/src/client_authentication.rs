//! How the client proves at the token endpoint who it is: exactly one way per
//! request, chosen beforehand and never probed for (RFC 6749 section 2.3).

use crate::config::{BasicEncoding, ClientAuthentication, Config};
use crate::error::{Error, Result};
use crate::metadata::Server;
use crate::secret::SecretString;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The way that is used: the config's, else one that the server offers, else
/// Basic with a secret and none without.
pub fn choose(config: &Config, server: &Server) -> ClientAuthentication {
    use ClientAuthentication::{ClientSecretBasic, ClientSecretPost, None, PrivateKeyJwt};
    if let Some(method) = config.client_authentication {
        return method;
    }
    if config.client_secret.is_some() {
        return match () {
            () if server.offers(ClientSecretBasic) => ClientSecretBasic,
            () if server.offers(ClientSecretPost) => ClientSecretPost,
            () => ClientSecretBasic,
        };
    }
    if config.signing_key.is_some() && server.offers(PrivateKeyJwt) {
        return PrivateKeyJwt;
    }
    None
}

/// A client that can authenticate: identifier, secret, and the way.
#[derive(Debug)]
pub struct Client<'a> {
    /// `client_id`; absent only where the grant does without.
    pub id: Option<&'a str>,
    /// The secret, resolved.
    pub secret: Option<SecretString>,
    /// How it authenticates.
    pub method: ClientAuthentication,
    /// How Basic credentials are encoded.
    pub basic_encoding: BasicEncoding,
}

impl Client<'_> {
    /// Adds what authenticates the client to the form or the headers of a
    /// request.
    ///
    /// # Errors
    /// Unsupported, for the ways that need a key.
    pub fn authenticate(
        &self,
        form: &mut Vec<(&'static str, SecretString)>,
        headers: &mut Vec<(String, SecretString)>,
    ) -> Result<()> {
        let id = self.id.unwrap_or_default();
        let secret = self.secret.as_ref().map(SecretString::reveal);
        match self.method {
            ClientAuthentication::None => {
                if let Some(id) = self.id {
                    form.push(("client_id", SecretString::new(id)));
                }
            }
            ClientAuthentication::ClientSecretBasic => {
                let credentials = basic(id, secret.unwrap_or_default(), self.basic_encoding);
                headers.push(("authorization".to_owned(), credentials));
            }
            ClientAuthentication::ClientSecretPost => {
                form.push(("client_id", SecretString::new(id)));
                form.push((
                    "client_secret",
                    SecretString::new(secret.unwrap_or_default()),
                ));
            }
            ClientAuthentication::ClientSecretJwt
            | ClientAuthentication::PrivateKeyJwt
            | ClientAuthentication::TlsClientAuth
            | ClientAuthentication::SelfSignedTlsClientAuth => {
                return Err(Error::Unsupported(format!(
                    "client authentication by {}",
                    self.method
                )));
            }
        }
        Ok(())
    }
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
    SecretString::new(format!("Basic {}", BASE64_STANDARD.encode(pair.reveal())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(secret: bool) -> Config {
        Config {
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
            format!("Basic {}", BASE64_STANDARD.encode("odd%3Aid:p+w%25"))
        );
        let raw = basic("id", "p w%", BasicEncoding::Raw);
        assert_eq!(
            raw.reveal(),
            format!("Basic {}", BASE64_STANDARD.encode("id:p w%"))
        );
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
    fn there_is_exactly_one_authentication_in_a_request() {
        for (method, in_form, in_headers) in [
            (ClientAuthentication::None, vec!["client_id"], 0),
            (ClientAuthentication::ClientSecretBasic, vec![], 1),
            (
                ClientAuthentication::ClientSecretPost,
                vec!["client_id", "client_secret"],
                0,
            ),
        ] {
            let client = Client {
                id: Some("id"),
                secret: Some(SecretString::new("s")),
                method,
                basic_encoding: BasicEncoding::FormUrlencoded,
            };
            let (mut form, mut headers) = (Vec::new(), Vec::new());
            client
                .authenticate(&mut form, &mut headers)
                .expect("supported");
            let names: Vec<_> = form.iter().map(|(name, _)| *name).collect();
            assert_eq!((names, headers.len()), (in_form, in_headers), "{method}");
        }
    }
}
