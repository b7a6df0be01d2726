//! A connection: what its calls have in common, and sending with its token.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use wasmtime::Store;
use wasmtime::component::ResourceAny;
use wasmtime_wasi_http::RequestOptions;

use crate::contract::bindings::InteractiveConnection;
use crate::contract::bindings::exports::tokenwell::oauth2::connections::GuestConnection;
use crate::contract::{
    AuthorizationOptions, AuthorizeOptions, Config, DeviceAuthorization, DevicePoll, Event,
    Parameter, PendingAuthorization, Problem, Redirect, ResolvedField, SecretError, Severity,
    Status, TlsMode, Token, TokenOptions,
};
use crate::engine::State;
use crate::error::{Error, Unavailability};
use crate::host::Host;
use crate::http_client::{HttpClient, Identity, Malformed};
use crate::telemetry::{call, observed};

/// The longest response body that [`Connection::send`] takes, in bytes.
const RESPONSE_LIMIT: usize = 64 << 20;

/// The longest a request may take where the config does not say, in seconds.
const DEFAULT_TIMEOUT: u32 = 30;

/// A named connection. Cheap to clone. Each call runs on a fresh instance of
/// the component, so that calls are concurrent; a call that is dropped ends at
/// once, with its requests, leases and listeners.
#[derive(Clone)]
pub struct Connection {
    host: Host,
    name: Arc<str>,
    config: Arc<Config>,
}

impl Connection {
    pub(crate) fn new(host: Host, name: &str, config: Config) -> Self {
        Self {
            host,
            name: name.into(),
            config: Arc::new(config),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its config, as the host gave it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything that is wrong with the config, errors first. Sends nothing.
    ///
    /// # Errors
    /// [`Error::NotConfigured`] for a name that is none; [`Error::Internal`].
    pub async fn check(&self) -> Result<Vec<Problem>, Error> {
        observed(call!("check"), &self.name, async {
            let mut open = self.open().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_check(store, connection).await?)
        })
        .await
    }

    /// The config as it takes effect, every default filled in, the server's
    /// metadata (RFC 8414) included, which is fetched where an issuer is named.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn resolve(&self) -> Result<Vec<ResolvedField>, Error> {
        observed(call!("resolve"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_resolve(store, connection).await??)
        })
        .await
    }

    /// Where the connection stands. Sends nothing.
    ///
    /// # Errors
    /// As [`Error`] has them; a config that lacks something is no error here.
    pub async fn status(&self) -> Result<Status, Error> {
        observed(call!("status"), &self.name, async {
            let mut open = self.open().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_status(store, connection).await??)
        })
        .await
    }

    /// A token that has not expired, renewed first where needed.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn token(&self, options: TokenOptions) -> Result<Token, Error> {
        observed(call!("token", hands out), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_token(store, connection, &options).await??)
        })
        .await
    }

    /// The headers that authorize one request: `Authorization`, and for a bound
    /// token its `DPoP` proof (RFC 9449 section 7.1), for which `dpop_nonce` is
    /// what the resource server asked for in its last response.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn authorization_headers(
        &self,
        method: &str,
        url: &str,
        options: TokenOptions,
        dpop_nonce: Option<&str>,
    ) -> Result<Vec<Parameter>, Error> {
        observed(
            call!("authorization_headers", hands out),
            &self.name,
            async {
                let mut open = self.open_online().await?;
                let (guest, store, connection) = open.parts();
                Ok(guest
                    .call_authorization_headers(
                        store, connection, method, url, &options, dpop_nonce,
                    )
                    .await??)
            },
        )
        .await
    }

    /// The token endpoint's last successful response, whole, as JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn response_json(&self) -> Result<String, Error> {
        observed(call!("response_json"), &self.name, async {
            let mut open = self.open().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_response_json(store, connection).await??)
        })
        .await
    }

    /// Begins an authorization: the URL is for the user's browser. Any process
    /// that shares the store can complete it.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn begin_authorization(
        &self,
        options: AuthorizationOptions,
    ) -> Result<PendingAuthorization, Error> {
        observed(call!("begin_authorization"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest
                .call_begin_authorization(store, connection, &options)
                .await??)
        })
        .await
    }

    /// Completes an authorization with what came back. A redirect that is not
    /// the answer to one begun here is refused, and what was begun stays.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn complete_authorization(&self, redirect: Redirect) -> Result<Status, Error> {
        observed(call!("complete_authorization"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            guest
                .call_complete_authorization(&mut *store, connection, &redirect)
                .await??;
            Ok(guest.call_status(store, connection).await??)
        })
        .await
    }

    /// Authorizes the connection: opens the listener and the browser, awaits
    /// the redirect, obtains the token, and tells the user how it went.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn authorize(&self, options: AuthorizeOptions) -> Result<Status, Error> {
        observed(call!("authorize"), &self.name, async {
            let mut open = self.open_online().await?;
            open.component
                .tokenwell_oauth2_interactive()
                .call_authorize(&mut open.store, open.connection, &options)
                .await??;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_status(store, connection).await??)
        })
        .await
    }

    /// Begins a device authorization (RFC 8628 section 3.1).
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn begin_device_authorization(&self) -> Result<DeviceAuthorization, Error> {
        observed(call!("begin_device_authorization"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest
                .call_begin_device_authorization(store, connection)
                .await??)
        })
        .await
    }

    /// Asks once whether the user has decided (RFC 8628 section 3.4).
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn poll_device_authorization(&self) -> Result<DevicePoll, Error> {
        observed(call!("poll_device_authorization"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest
                .call_poll_device_authorization(store, connection)
                .await??)
        })
        .await
    }

    /// Renews the token now, whether or not it is due.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn refresh(&self) -> Result<Token, Error> {
        observed(call!("refresh"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_refresh(store, connection).await??)
        })
        .await
    }

    /// Forgets the credential. The config is the host's and stays.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn clear(&self) -> Result<(), Error> {
        observed(call!("clear"), &self.name, async {
            let mut open = self.open().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_clear(store, connection).await??)
        })
        .await
    }

    /// Revokes the credential at the server (RFC 7009), then clears it.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn revoke(&self) -> Result<(), Error> {
        observed(call!("revoke"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_revoke(store, connection).await??)
        })
        .await
    }

    /// What the server knows of the access token (RFC 7662), as JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn introspect(&self) -> Result<String, Error> {
        observed(call!("introspect"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_introspect(store, connection).await??)
        })
        .await
    }

    /// The user's claims (OpenID Connect Core section 5.3), as JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn userinfo(&self) -> Result<String, Error> {
        observed(call!("userinfo"), &self.name, async {
            let mut open = self.open_online().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_userinfo(store, connection).await??)
        })
        .await
    }

    /// What has happened to the connection, the latest last.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn history(&self) -> Result<Vec<Event>, Error> {
        observed(call!("history"), &self.name, async {
            let mut open = self.open().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_history(store, connection).await??)
        })
        .await
    }

    /// Seals the stored records anew under the host's current key.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn reseal(&self) -> Result<(), Error> {
        observed(call!("reseal"), &self.name, async {
            let mut open = self.open().await?;
            let (guest, store, connection) = open.parts();
            Ok(guest.call_reseal(store, connection).await??)
        })
        .await
    }

    /// Sends one request with the token, over the host's pooled client, and
    /// once more with a renewed token where the answer is a 401 that says
    /// `invalid_token` (RFC 6750 section 3.1), and once more with the nonce that a
    /// resource server demands in DPoP proofs (RFC 9449 section 9). Redirects are
    /// not followed. The
    /// config's `timeout` holds for connecting, for the response to begin, and
    /// between its parts.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a URL that is neither https nor on the loopback
    /// interface, [`Error::Unavailable`] where there was no response,
    /// [`Error::Unsupported`] for a response of more than 64 MiB; otherwise as
    /// [`Connection::token`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        observed(call!("send"), &self.name, async {
            let (mut options, mut nonce) = (TokenOptions::default(), None);
            loop {
                let (authorized, token) = self.authorized(&request, &options, &nonce).await?;
                let response = self.exchange(authorized).await?;
                if let Some(demanded) = demanded_nonce(&response)
                    && nonce.is_none()
                {
                    nonce = Some(demanded);
                } else if says_invalid_token(&response) && options.rejected.is_none() {
                    options.rejected = Some(token);
                } else {
                    return Ok(response);
                }
            }
        })
        .await
    }

    /// The request with the token, and the token.
    async fn authorized(
        &self,
        request: &Request<Bytes>,
        options: &TokenOptions,
        nonce: &Option<String>,
    ) -> Result<(Request<Bytes>, String), Error> {
        let mut request = request.clone();
        let url = request.uri().to_string();
        let headers = self
            .authorization_headers(
                request.method().as_str(),
                &url,
                options.clone(),
                nonce.as_deref(),
            )
            .await?;
        let mut token = String::new();
        for Parameter { name, value } in headers {
            let name = HeaderName::try_from(name).map_err(internal)?;
            if name == AUTHORIZATION
                && let Some((_, credentials)) = value.split_once(' ')
            {
                token = credentials.to_owned();
            }
            let mut value = HeaderValue::try_from(value).map_err(internal)?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok((request, token))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let seconds = self.config.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let limit = Some(Duration::from_secs(seconds.into()));
        let options = RequestOptions {
            connect_timeout: limit,
            first_byte_timeout: limit,
            between_bytes_timeout: limit,
        };
        let request = request.map(|body| Full::new(body).map_err(|e| match e {}).boxed_unsync());
        let response = self.http().await?.send(request, options).await;
        let (parts, mut body) = response.map_err(unsent)?.into_parts();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(unsent)?.into_data() else {
                continue;
            };
            if data.len() > RESPONSE_LIMIT - whole.len() {
                return Err(Error::Unsupported(
                    "a response of more than 64 MiB; send the request with a client of your own \
                     and `authorization_headers`"
                        .to_owned(),
                ));
            }
            whole.extend_from_slice(&data);
        }
        Ok(Response::from_parts(parts, whole.freeze()))
    }

    /// Opens the connection in a fresh instance, for calls that send nothing.
    async fn open(&self) -> Result<Open, Error> {
        self.open_with(self.host.services().http.anonymous()).await
    }

    /// The same for calls that may send something.
    async fn open_online(&self) -> Result<Open, Error> {
        refuse_unsupported_tls(&self.config)?;
        self.open_with(self.http().await?).await
    }

    /// What the connection sends through: with its client certificate, where it
    /// has one (RFC 8705).
    async fn http(&self) -> Result<Arc<HttpClient>, Error> {
        let services = self.host.services();
        let (Some(certificate), Some(key)) = (
            &self.config.client_certificate,
            &self.config.client_certificate_key,
        ) else {
            return Ok(services.http.anonymous());
        };
        let resolve = async |field: &str, reference: &str| {
            let resolved = services.secrets.resolve(reference).await;
            resolved.map_err(|error| unresolved(field, error))
        };
        let certificate = resolve("client_certificate", certificate).await?;
        let key = resolve("client_certificate_key", key).await?;
        let identity = Identity::read(&certificate, &key).map_err(|malformed| {
            let (field, message) = match malformed {
                Malformed::Certificate(message) => ("client_certificate", message),
                Malformed::Key(message) => ("client_certificate_key", message),
            };
            Error::NotConfigured(vec![problem(field, message)])
        })?;
        Ok(services.http.identified(identity))
    }

    async fn open_with(&self, http: Arc<HttpClient>) -> Result<Open, Error> {
        let (component, mut store) = self.host.instantiate_with(http).await?;
        let connection = component
            .tokenwell_oauth2_connections()
            .connection()
            .call_open(&mut store, &self.name, &self.config)
            .await??;
        Ok(Open {
            component,
            store,
            connection,
        })
    }
}

/// Why a reference in the config gave nothing.
fn unresolved(field: &str, error: SecretError) -> Error {
    match error {
        SecretError::NotFound(what) => Error::NotConfigured(vec![problem(field, what)]),
        SecretError::Denied(why) => Error::Forbidden(why),
        SecretError::Unavailable(cause) => Error::Unavailable(Unavailability {
            cause,
            retry_at: None,
        }),
        SecretError::Unsupported(what) => Error::Unsupported(what),
    }
}

fn problem(field: &str, message: String) -> Problem {
    Problem {
        field: field.to_owned(),
        severity: Severity::Error,
        message,
        mend: "name a PEM file that the host can read".to_owned(),
    }
}

/// Tells what a config's `tls` asks for and this version cannot do, before
/// anything is sent under another rule.
pub(crate) fn refuse_unsupported_tls(config: &Config) -> Result<(), Error> {
    match config.tls {
        TlsMode::Verify => Ok(()),
        TlsMode::Trust => Err(Error::Unsupported("tls: trust".to_owned())),
        TlsMode::Off => Err(Error::Unsupported("tls: off".to_owned())),
    }
}

/// A connection that is open in an instance of its own.
struct Open {
    component: InteractiveConnection,
    store: Store<State>,
    connection: ResourceAny,
}

impl Open {
    fn parts(&mut self) -> (GuestConnection<'_>, &mut Store<State>, ResourceAny) {
        let guest = self.component.tokenwell_oauth2_connections().connection();
        (guest, &mut self.store, self.connection)
    }
}

/// Whether a resource server refuses the token itself (RFC 6750 section 3.1).
fn says_invalid_token(response: &Response<Bytes>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        && response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|challenge| {
                challenge
                    .split([' ', ','])
                    .any(|part| matches!(part, "error=\"invalid_token\"" | "error=invalid_token"))
            })
}

/// The nonce that a resource server demands in proofs (RFC 9449 section 9).
fn demanded_nonce(response: &Response<Bytes>) -> Option<String> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let nonce = response.headers().get("dpop-nonce")?;
    nonce.to_str().ok().map(str::to_owned)
}

fn unsent(error: wasmtime_wasi_http::Error) -> Error {
    match error {
        wasmtime_wasi_http::Error::HttpRequestDenied => {
            Error::Forbidden("the URL is neither https nor on the loopback interface".to_owned())
        }
        error => Error::Unavailable(Unavailability {
            cause: error.to_string(),
            retry_at: None,
        }),
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(error.into())
}
