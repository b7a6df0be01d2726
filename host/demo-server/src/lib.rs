//! A small OAuth 2.0 authorization server with one protected resource, for the
//! demonstration and for tests. It listens on the loopback address, keeps
//! everything in memory, and is not part of the product: nothing in it is
//! shared with the client side that it is used to show.
//!
//! It holds to what matters between client and server: PKCE with S256 (RFC
//! 7636), exact redirect URIs with any loopback port (RFC 8252), the issuer in
//! the response (RFC 9207), single-use codes, rotating refresh tokens whose
//! second use ends the family (RFC 9700 section 4.14.2), revocation (RFC 7009),
//! and metadata (RFC 8414).

#![deny(missing_docs)]

mod answer;
mod authorize;
mod grants;
mod page;
mod parameters;
mod random;
mod received;
mod redirect_uri;
mod scope;
mod server;
mod token;
mod user;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use received::{Endpoint, GrantType, Received, TokenHash};

use grants::{Grants, Lifetimes};
use server::Server;

/// How the server is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long an access token is valid; told in whole seconds. 8 seconds.
    pub access_token_lifetime: Duration,
    /// How long an authorization code is valid. 60 seconds.
    pub code_lifetime: Duration,
    /// How long the token endpoint takes to answer, as a server far away would.
    /// Not at all.
    pub token_endpoint_delay: Duration,
    /// The redirect URIs registered for the public client. The path `/oauth2`
    /// on either loopback address.
    pub redirect_uris: Vec<String>,
    /// The only user. `demo`.
    pub user_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            access_token_lifetime: Duration::from_secs(8),
            code_lifetime: Duration::from_secs(60),
            token_endpoint_delay: Duration::ZERO,
            redirect_uris: vec![
                "http://127.0.0.1/oauth2".to_owned(),
                "http://[::1]/oauth2".to_owned(),
            ],
            user_name: "demo".to_owned(),
        }
    }
}

/// A running server. Dropping it stops it: it takes no new connections, and
/// what it has been asked already is still answered as long as the runtime
/// lives.
pub struct DemoServer {
    server: Arc<Server>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl DemoServer {
    /// Starts a server on 127.0.0.1, on a port that is free, within the Tokio
    /// runtime of the caller.
    ///
    /// # Errors
    /// Where there is no port or no randomness to be had, or a redirect URI is
    /// none.
    pub async fn start(options: Options) -> io::Result<Self> {
        let malformed = options
            .redirect_uris
            .iter()
            .find(|uri| !redirect_uri::is_registrable(uri));
        if let Some(uri) = malformed {
            let message = format!("not a redirect URI: {uri}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let authority = listener.local_addr()?.to_string();
        let server = Arc::new(Server {
            issuer: format!("http://{authority}"),
            authority,
            client_id: "tokenwell-demo".to_owned(),
            client_name: "Tokenwell demo".to_owned(),
            redirect_uris: options.redirect_uris,
            confidential_client_id: "tokenwell-demo-service".to_owned(),
            confidential_client_secret: random::secret()?,
            user_name: options.user_name,
            token_endpoint_delay: options.token_endpoint_delay,
            forms: Mutex::default(),
            grants: Mutex::new(Grants::new(Lifetimes {
                code: options.code_lifetime,
                access_token: options.access_token_lifetime,
            })),
            received: Mutex::new(VecDeque::new()),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(server::serve(listener, Arc::clone(&server), stopped));
        Ok(Self { server, stop, task })
    }

    /// The issuer identifier (RFC 8414 section 2), where the metadata is found.
    pub fn issuer(&self) -> &str {
        &self.server.issuer
    }

    /// The public client, which has no secret: for the authorization code grant
    /// and refreshing.
    pub fn client_id(&self) -> &str {
        &self.server.client_id
    }

    /// The confidential client, for the client credentials grant.
    pub fn confidential_client_id(&self) -> &str {
        &self.server.confidential_client_id
    }

    /// Its secret, another one each time a server is started.
    pub fn confidential_client_secret(&self) -> &str {
        &self.server.confidential_client_secret
    }

    /// The name of the only user, who signs in with any password.
    pub fn user_name(&self) -> &str {
        &self.server.user_name
    }

    /// The protected resource. It answers a GET with JSON, given an access
    /// token with the scope `notes:read`.
    pub fn resource_url(&self) -> String {
        format!("{}/api/notes", self.server.issuer)
    }

    /// What has been received so far, the latest last; the last 10 000.
    pub fn requests(&self) -> Vec<Received> {
        self.server.received().iter().cloned().collect()
    }

    /// Does what a user would with the authorization URL: opens the page, signs
    /// in and allows. Returns the callback URL that the browser is sent to,
    /// which is not called. That may tell of an error where the request has one.
    ///
    /// # Errors
    /// Where the URL is not this server's, or the server shows an error page.
    pub async fn consent(&self, authorization_url: &str) -> io::Result<String> {
        user::consent(self.issuer(), self.user_name(), authorization_url).await
    }

    /// Does what a user would with the authorization URL, and follows the
    /// redirect as a browser would. Returns the HTTP status of the page that the
    /// user ends on, which is the client's.
    ///
    /// # Errors
    /// As [`DemoServer::consent`], and where nobody listens on the callback URL.
    pub async fn consent_and_follow(&self, authorization_url: &str) -> io::Result<u16> {
        user::follow(&self.consent(authorization_url).await?).await
    }

    /// Stops the server and waits until everything it was asked is answered.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // The task has nothing to return, and a panic in it has been reported.
        let _ = self.task.await;
    }
}

impl fmt::Debug for DemoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoServer")
            .field("issuer", &self.server.issuer)
            .finish_non_exhaustive()
    }
}
