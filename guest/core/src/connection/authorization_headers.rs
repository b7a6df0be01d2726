//! What authorizes a request to a resource server: the token, and the proof of one
//! that is bound to a key.

use super::{Connection, Token, TokenOptions};
use crate::client_authentication::bearer;
use crate::dpop::Subject;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::secret::SecretString;

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// The headers that authorize one request: `Authorization` (RFC 6750 section
    /// 2.1), and the proof of a token that is bound to a key (RFC 9449 section
    /// 7.1). `dpop_nonce` is what the resource server asked for last.
    ///
    /// # Errors
    /// As [`token`](Self::token); unsupported, where the token is of a type that
    /// is not understood (RFC 6749 section 7.1), where it would be seen on its way
    /// (RFC 6750 section 5.3), or the URL of a request with a proof is none.
    pub async fn authorization_headers(
        &self,
        method: &str,
        url: &str,
        options: &TokenOptions,
        dpop_nonce: Option<&str>,
    ) -> Result<Vec<(&'static str, SecretString)>> {
        let token = self.token(options).await?;
        self.headers_for(&token, method, url, dpop_nonce).await
    }

    pub(super) async fn headers_for(
        &self,
        token: &Token,
        method: &str,
        url: &str,
        dpop_nonce: Option<&str>,
    ) -> Result<Vec<(&'static str, SecretString)>> {
        let access_token = &token.access_token;
        let is_of = |name: &str| token.token_type.eq_ignore_ascii_case(name);
        if is_of("bearer") {
            Endpoint::server_of(url)
                .map_err(|what| Error::forbidden(format!("a token for a URL that {what}")))?;
            return Ok(vec![("Authorization", bearer(access_token))]);
        }
        if !is_of("dpop") {
            return Err(Error::unsupported(format!(
                "tokens of the type {}",
                token.token_type
            )));
        }
        let without_fragment = url.split('#').next().unwrap_or_default();
        let url = Endpoint::parse(without_fragment)
            .map_err(|what| Error::forbidden(format!("a proof for a URL that {what}")))?;
        let subject = Subject {
            method,
            url: &url,
            access_token: Some(access_token),
            nonce: dpop_nonce,
        };
        // What its authorization server takes, a resource server does.
        let accepted = {
            let known = self.known.borrow();
            let record = known.as_ref().map(|version| &version.record);
            let credential = record.and_then(|record| self.credential_in(record));
            credential.map(|credential| credential.server.proof_algorithms.clone())
        };
        let proof = self.proof(subject, &accepted.unwrap_or_default()).await?;
        let value = SecretString::new(format!("DPoP {}", access_token.reveal()));
        Ok(vec![("Authorization", value), ("DPoP", proof)])
    }
}
