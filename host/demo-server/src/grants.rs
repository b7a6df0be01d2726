//! What has been granted: codes, families of refresh tokens, access tokens.
//!
//! Only digests are kept, so a look-up takes no longer for a good guess, and
//! nothing here can be presented anywhere.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::random;
use crate::scope::Scope;

type Digest = [u8; 32];

fn digest(value: &str) -> Digest {
    Sha256::digest(value).into()
}

/// Whether two secrets are the same, in a time that tells nothing of either.
pub(crate) fn same_secret(a: &str, b: &str) -> bool {
    digest(a) == digest(b)
}

/// An authorization request that has been found good.
#[derive(Clone)]
pub(crate) struct AuthorizationRequest {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: Scope,
    pub(crate) state: Option<String>,
    pub(crate) code_challenge: String,
    pub(crate) login_hint: Option<String>,
}

struct Code {
    request: AuthorizationRequest,
    expires: Instant,
    /// Set at the first use.
    family: Option<Family>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Family(u64);

/// Everything that goes back to one authorization.
struct Authorization {
    client_id: String,
    scope: Scope,
    revoked: bool,
}

struct RefreshToken {
    family: Family,
    used: bool,
}

struct AccessToken {
    client_id: String,
    scope: Scope,
    expires: Instant,
    /// None for the client credentials grant: there is no user behind it.
    family: Option<Family>,
}

/// What the token endpoint gives out.
pub(crate) struct Issued {
    pub(crate) access_token: String,
    pub(crate) expires_in: Duration,
    pub(crate) refresh_token: Option<String>,
    pub(crate) scope: Scope,
}

/// Why nothing was given out.
pub(crate) enum Refusal {
    /// `invalid_grant`, and why.
    Grant(&'static str),
    /// `invalid_scope`
    Scope,
    /// The machine has no random numbers.
    Random,
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::Random
    }
}

/// A token is another client's.
pub(crate) struct NotYours;

/// How long things last.
#[derive(Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) code: Duration,
    pub(crate) access_token: Duration,
}

pub(crate) struct Grants {
    lifetimes: Lifetimes,
    codes: HashMap<Digest, Code>,
    authorizations: HashMap<Family, Authorization>,
    refresh_tokens: HashMap<Digest, RefreshToken>,
    access_tokens: HashMap<Digest, AccessToken>,
}

impl Grants {
    pub(crate) fn new(lifetimes: Lifetimes) -> Self {
        Self {
            lifetimes,
            codes: HashMap::new(),
            authorizations: HashMap::new(),
            refresh_tokens: HashMap::new(),
            access_tokens: HashMap::new(),
        }
    }

    /// The user has consented: a code for the client (RFC 6749 section 4.1.2).
    pub(crate) fn issue_code(
        &mut self,
        request: AuthorizationRequest,
        now: Instant,
    ) -> io::Result<String> {
        let code = random::secret()?;
        // A used code is kept: its return is a sign of theft.
        self.codes
            .retain(|_, code| code.family.is_some() || code.expires > now);
        self.codes.insert(
            digest(&code),
            Code {
                request,
                expires: now + self.lifetimes.code,
                family: None,
            },
        );
        Ok(code)
    }

    /// Tokens for a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6).
    pub(crate) fn redeem_code(
        &mut self,
        code: &str,
        client_id: &str,
        redirect_uri: &str,
        code_verifier: &str,
        now: Instant,
    ) -> Result<Issued, Refusal> {
        let key = digest(code);
        let Some(known) = self.codes.get(&key) else {
            return Err(Refusal::Grant("the code is unknown or has expired"));
        };
        if known.request.client_id != client_id {
            return Err(Refusal::Grant("the code was issued to another client"));
        }
        if let Some(family) = known.family {
            self.revoke_family(family);
            return Err(Refusal::Grant("the code has been used already"));
        }
        let request = known.request.clone();
        let expired = known.expires <= now;
        // From here on it is used up, whatever comes of it: nobody gets a
        // second guess at the verifier.
        self.codes.remove(&key);
        if expired {
            return Err(Refusal::Grant("the code is unknown or has expired"));
        }
        if request.redirect_uri != redirect_uri {
            return Err(Refusal::Grant(
                "redirect_uri is not the one the code was sent to",
            ));
        }
        let challenge = URL_SAFE_NO_PAD.encode(digest(code_verifier));
        if !same_secret(&challenge, &request.code_challenge) {
            return Err(Refusal::Grant(
                "code_verifier does not match code_challenge",
            ));
        }

        let family = Family(self.authorizations.len() as u64);
        let scope = request.scope.clone();
        self.authorizations.insert(
            family,
            Authorization {
                client_id: request.client_id.clone(),
                scope: scope.clone(),
                revoked: false,
            },
        );
        self.codes.insert(
            key,
            Code {
                request,
                expires: now,
                family: Some(family),
            },
        );
        self.issue(client_id, scope, Some(family), now)
    }

    /// Tokens for a refresh token, which is thereby used up (RFC 6749 section
    /// 6, RFC 9700 section 4.14.2). One that was used before ends the family.
    pub(crate) fn refresh(
        &mut self,
        refresh_token: &str,
        client_id: &str,
        scope: Option<&str>,
        now: Instant,
    ) -> Result<Issued, Refusal> {
        let key = digest(refresh_token);
        let Some(known) = self.refresh_tokens.get(&key) else {
            return Err(Refusal::Grant("the refresh token is unknown"));
        };
        let (family, used) = (known.family, known.used);
        let Some(authorization) = self.authorizations.get(&family) else {
            return Err(Refusal::Grant("the refresh token is unknown"));
        };
        if authorization.client_id != client_id {
            return Err(Refusal::Grant(
                "the refresh token was issued to another client",
            ));
        }
        if authorization.revoked {
            return Err(Refusal::Grant("the refresh token has been revoked"));
        }
        if used {
            self.revoke_family(family);
            return Err(Refusal::Grant(
                "the refresh token has been used already; everything issued from it is revoked",
            ));
        }
        let scope = match scope {
            None => authorization.scope.clone(),
            Some(asked) => Scope::requested(Some(asked))
                .filter(|asked| asked.is_within(&authorization.scope))
                .ok_or(Refusal::Scope)?,
        };
        let issued = self.issue(client_id, scope, Some(family), now)?;
        if let Some(known) = self.refresh_tokens.get_mut(&key) {
            known.used = true;
        }
        Ok(issued)
    }

    /// A token for the client itself (RFC 6749 section 4.4).
    pub(crate) fn client_credentials(
        &mut self,
        client_id: &str,
        scope: Option<&str>,
        now: Instant,
    ) -> Result<Issued, Refusal> {
        let scope = Scope::requested(scope).ok_or(Refusal::Scope)?;
        self.issue(client_id, scope, None, now)
    }

    fn issue(
        &mut self,
        client_id: &str,
        scope: Scope,
        family: Option<Family>,
        now: Instant,
    ) -> Result<Issued, Refusal> {
        let access_token = random::secret()?;
        let refresh_token = family.map(|_| random::secret()).transpose()?;
        self.access_tokens.retain(|_, token| token.expires > now);
        self.access_tokens.insert(
            digest(&access_token),
            AccessToken {
                client_id: client_id.to_owned(),
                scope: scope.clone(),
                expires: now + self.lifetimes.access_token,
                family,
            },
        );
        if let (Some(family), Some(refresh_token)) = (family, &refresh_token) {
            let token = RefreshToken {
                family,
                used: false,
            };
            self.refresh_tokens.insert(digest(refresh_token), token);
        }
        Ok(Issued {
            access_token,
            expires_in: self.lifetimes.access_token,
            refresh_token,
            scope,
        })
    }

    /// Revokes a token if there is such a one (RFC 7009 section 2.1). With a
    /// refresh token goes everything of its family.
    pub(crate) fn revoke(&mut self, token: &str, client_id: &str) -> Result<(), NotYours> {
        let key = digest(token);
        if let Some(refresh_token) = self.refresh_tokens.get(&key) {
            let family = refresh_token.family;
            let owner = self.authorizations.get(&family);
            if owner.is_none_or(|owner| owner.client_id != client_id) {
                return Err(NotYours);
            }
            self.revoke_family(family);
        } else if let Some(access_token) = self.access_tokens.get(&key) {
            if access_token.client_id != client_id {
                return Err(NotYours);
            }
            self.access_tokens.remove(&key);
        }
        Ok(())
    }

    fn revoke_family(&mut self, family: Family) {
        if let Some(authorization) = self.authorizations.get_mut(&family) {
            authorization.revoked = true;
        }
        self.access_tokens
            .retain(|_, token| token.family != Some(family));
    }

    /// What an access token allows; none if it is unknown, expired or revoked.
    pub(crate) fn scope_of(&self, access_token: &str, now: Instant) -> Option<&Scope> {
        let token = self.access_tokens.get(&digest(access_token))?;
        (token.expires > now).then_some(&token.scope)
    }
}
