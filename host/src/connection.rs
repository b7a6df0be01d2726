//! A connection: what its calls have in common, and sending with its token.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokenwell_core::challenge::{self, Challenge};
use tokio::sync::Semaphore;
use wasmtime::component::{Instance, ResourceAny};
use zeroize::Zeroizing;

use crate::contract::bindings::InteractiveConnection;
use crate::contract::bindings::exports::tokenwell::oauth2::connections::GuestConnection;
use crate::contract::{
    AuthorizationOptions, AuthorizeOptions, Config, DeviceAuthorization, DevicePoll,
    Error as ConnectionError, Event, Loaded, Parameter, PendingAuthorization, Problem, Redirect,
    ResolvedField, SecretError, Severity, Status, StorageFailureKind, StoreError, TlsMode, Token,
    TokenOptions, UnixSeconds,
};
use crate::engine::Placed;
use crate::error::{Error, StorageFailure, Unavailability};
use crate::host::Host;
use crate::http_client::{
    DEFAULT_TIMEOUT, Egress, GuestHttp, HttpClient, Identity, Judgement, Malformed, Manner, Origin,
    Reach, Remark, Rules, TrustFile, Witness, each_within, failed, whole,
};
use crate::queue::Places;
use crate::telemetry::{Call, call, observed};
use crate::underway::{Progress, Underway};

/// The longest response body that [`Connection::send`] takes, in bytes.
const RESPONSE_LIMIT: usize = 64 << 20;

/// A named connection. Cheap to clone; clones share everything. Each call runs on
/// a fresh instance of the component, so that calls are concurrent and harm none
/// but themselves.
///
/// A call that is dropped ends at once, with its requests, leases and listeners;
/// but where a server may have acted on a request already, and its answer may be
/// the one that has the next refresh token, the call goes on by itself until that
/// is stored, for as long as the config's `timeout` and half a minute.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    name: Arc<str>,
    config: Config,
    /// What the connection's own requests are held to, once it sends any.
    rules: OnceLock<Arc<Rules>>,
    /// The token that was handed out last.
    handed_out: Mutex<Option<Arc<HandedOut>>>,
    /// When a plugin had the token renewed last.
    renewed_for_plugins: Mutex<Option<Instant>>,
    /// Where its calls wait, and with them those of other connections to the same
    /// server.
    queue: Arc<Semaphore>,
    server: OnceLock<Arc<Semaphore>>,
}

/// A token that may be handed out again for as long as it is fresh and the store
/// has the entry that it came from (`fresh-until` in the contract).
struct HandedOut {
    token: Token,
    key: String,
    version: u64,
    /// When it was handed out first.
    since: UnixSeconds,
    /// What it authorizes requests with, where that is the same for all.
    authorization: OnceLock<Arc<Authorization>>,
}

/// The headers that authorize a request.
pub(crate) struct Authorization {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The token in them.
    pub(crate) token: Zeroizing<String>,
}

impl Authorization {
    fn of(headers: Vec<Parameter>) -> Result<Self, Error> {
        let mut read = Vec::with_capacity(headers.len());
        let mut token = Zeroizing::default();
        for Parameter { name, value } in headers {
            let name = HeaderName::try_from(name).map_err(internal)?;
            if name == AUTHORIZATION
                && let Some((_, credentials)) = value.split_once(' ')
            {
                token = Zeroizing::new(credentials.to_owned());
            }
            let mut value = HeaderValue::try_from(value).map_err(internal)?;
            value.set_sensitive(true);
            read.push((name, value));
        }
        Ok(Self {
            headers: read,
            token,
        })
    }

    /// Puts the headers on a request, in place of any of the same names.
    pub(crate) fn put_on(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }

    /// Whether it is not for one method and URL, as a proof is (RFC 9449).
    fn is_for_any_request(&self) -> bool {
        self.headers.iter().all(|(name, _)| name == AUTHORIZATION)
    }
}

/// Whether a call may send requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    Nothing,
    Requests,
    /// It does, and waits for its user for minutes in between.
    RequestsOfAUser,
}

/// How long a call that nobody waits for any more may take to store what the
/// server has answered, beside what it waits for the answer.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// How long it takes until plugins can have a token renewed once more.
const BETWEEN_RENEWALS_FOR_PLUGINS: Duration = Duration::from_secs(60);

/// How many calls of one connection may have an instance at once. Of many callers
/// who ask for a token that has to be renewed, one renews it and all others wait.
const CALLS_AT_ONCE: usize = 16;

/// What is done in the instance of a call.
type Making<'a, T> =
    Pin<Box<dyn Future<Output = wasmtime::Result<Result<T, ConnectionError>>> + Send + 'a>>;

impl Connection {
    pub(crate) fn new(host: Host, name: &str, config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                host,
                name: name.into(),
                config,
                rules: OnceLock::new(),
                handed_out: Mutex::default(),
                renewed_for_plugins: Mutex::default(),
                queue: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
                server: OnceLock::new(),
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Its config, as the host gave it.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Everything that is wrong with the config, errors first. Sends nothing.
    ///
    /// # Errors
    /// [`Error::NotConfigured`] for a name that is none; [`Error::Internal`].
    pub async fn check(&self) -> Result<Vec<Problem>, Error> {
        let checking = self.call(call!("check"), Sends::Nothing, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_check(store, connection).await.map(Ok)
            })
        });
        let mut problems = checking.await?;
        if let Err(why) = self.tls_allowed() {
            let problem = Problem {
                field: "tls".to_owned(),
                severity: Severity::Error,
                message: why,
                mend: "have the host allow it, or leave it out".to_owned(),
            };
            problems.insert(0, problem);
        }
        Ok(problems)
    }

    /// The config as it takes effect, every default filled in, the server's
    /// metadata (RFC 8414) included, which is fetched where an issuer is named.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn resolve(&self) -> Result<Vec<ResolvedField>, Error> {
        self.call(call!("resolve"), Sends::Requests, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_resolve(store, connection).await
            })
        })
        .await
    }

    /// Where the connection stands. Sends nothing.
    ///
    /// # Errors
    /// As [`Error`] has them; a config that lacks something is no error here.
    pub async fn status(&self) -> Result<Status, Error> {
        self.call(call!("status"), Sends::Nothing, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_status(store, connection).await
            })
        })
        .await
    }

    /// A token that has not expired, renewed first where needed.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn token(&self, options: TokenOptions) -> Result<Token, Error> {
        let drawing = self.draw(options);
        observed(call!("token", hands out), &self.inner.name, drawing).await
    }

    async fn draw(&self, options: TokenOptions) -> Result<Token, Error> {
        if let Some(token) = self.handed_out_before(&options).await {
            return Ok(token);
        }
        let connection = self.clone();
        self.underway(|progress| async move { connection.draw_anew(options, progress).await })
            .await
    }

    /// Has the component draw a token, and remembers it.
    async fn draw_anew(
        &self,
        options: TokenOptions,
        progress: Arc<Progress>,
    ) -> Result<Token, Error> {
        let places = self.places(Sends::Requests).await;
        // Whoever had the places before has left a token, most likely.
        if places.waited
            && let Some(token) = self.handed_out_before(&options).await
        {
            return Ok(token);
        }
        let Opened {
            instance,
            mut store,
            connection,
        } = self.open(Sends::Requests, places, progress).await?;
        let drawing = &self.inner.host.runtime().drawing;
        let drawn = drawing.token(&mut store, &instance, connection, &options);
        let token = outcome(drawn.await, &store)?;
        if let Some((key, version)) = store.data_mut().seen.take() {
            self.remember(Some(Arc::new(HandedOut {
                token: token.clone(),
                key,
                version,
                since: crate::now(),
                authorization: OnceLock::new(),
            })));
        }
        Ok(token)
    }

    /// The token that was handed out last, where it is what the component would
    /// give: fresh, and still what is stored.
    async fn handed_out_before(&self, options: &TokenOptions) -> Option<Token> {
        let last = self.handed_out()?;
        let now = crate::now();
        let wanted = now.saturating_add(options.min_validity_seconds.unwrap_or(0).into());
        // A clock that was set back makes old tokens fresh.
        let is_fresh = last.since <= now
            && last.token.fresh_until.is_none_or(|until| now < until)
            && last.token.expires_at.is_none_or(|at| wanted < at)
            && options.rejected.as_ref() != Some(&last.token.access_token);
        if !is_fresh {
            return None;
        }
        let store = &self.inner.host.services().store;
        match store.load(&last.key, Some(last.version)).await {
            Ok(Loaded::Unchanged) => Some(last.token.clone()),
            // Whatever it is, the component deals with it.
            Ok(Loaded::Absent | Loaded::Entry(_)) | Err(_) => {
                self.remember(None);
                None
            }
        }
    }

    /// Whether a plugin may have the token renewed by saying that it was refused.
    /// It may once in a while: what a plugin says, or has an API say, must not
    /// bring the server to shut the platform out.
    pub(crate) fn may_be_renewed_for_plugins(&self) -> bool {
        let last = self.inner.renewed_for_plugins.lock();
        let mut last = last.unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = last.is_none_or(|last| now - last >= BETWEEN_RENEWALS_FOR_PLUGINS);
        if may {
            *last = Some(now);
        }
        may
    }

    fn handed_out(&self) -> Option<Arc<HandedOut>> {
        let handed_out = self.inner.handed_out.lock();
        handed_out.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, token: Option<Arc<HandedOut>>) {
        let handed_out = self.inner.handed_out.lock();
        *handed_out.unwrap_or_else(PoisonError::into_inner) = token;
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
        let (method, url) = (method.to_owned(), url.to_owned());
        let dpop_nonce = dpop_nonce.map(str::to_owned);
        self.call(
            call!("authorization_headers", hands out),
            Sends::Requests,
            move |open| {
                Box::pin(async move {
                    let (guest, store, connection) = open.parts();
                    let nonce = dpop_nonce.as_deref();
                    guest
                        .call_authorization_headers(
                            store, connection, &method, &url, &options, nonce,
                        )
                        .await
                })
            },
        )
        .await
    }

    /// The token endpoint's last successful response, whole, as JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn response_json(&self) -> Result<String, Error> {
        self.call(call!("response_json"), Sends::Nothing, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_response_json(store, connection).await
            })
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
        self.call(call!("begin_authorization"), Sends::Requests, move |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest
                    .call_begin_authorization(store, connection, &options)
                    .await
            })
        })
        .await
    }

    /// Completes an authorization with what came back. A redirect that is not
    /// the answer to one begun here is refused, and what was begun stays.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn complete_authorization(&self, redirect: Redirect) -> Result<Status, Error> {
        self.call(
            call!("complete_authorization"),
            Sends::Requests,
            move |open| {
                Box::pin(async move {
                    let (guest, store, connection) = open.parts();
                    let completing =
                        guest.call_complete_authorization(&mut *store, connection, &redirect);
                    match completing.await? {
                        Ok(()) => guest.call_status(store, connection).await,
                        Err(error) => Ok(Err(error)),
                    }
                })
            },
        )
        .await
    }

    /// Authorizes the connection: opens the listener and the browser, awaits
    /// the redirect, obtains the token, and tells the user how it went.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn authorize(&self, options: AuthorizeOptions) -> Result<Status, Error> {
        self.call(call!("authorize"), Sends::RequestsOfAUser, move |open| {
            Box::pin(async move {
                let interactive = open.component.tokenwell_oauth2_interactive();
                let authorizing =
                    interactive.call_authorize(&mut open.store, open.connection, &options);
                if let Err(error) = authorizing.await? {
                    return Ok(Err(error));
                }
                let (guest, store, connection) = open.parts();
                guest.call_status(store, connection).await
            })
        })
        .await
    }

    /// Begins a device authorization (RFC 8628 section 3.1).
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn begin_device_authorization(&self) -> Result<DeviceAuthorization, Error> {
        self.call(
            call!("begin_device_authorization"),
            Sends::Requests,
            |open| {
                Box::pin(async move {
                    let (guest, store, connection) = open.parts();
                    guest
                        .call_begin_device_authorization(store, connection)
                        .await
                })
            },
        )
        .await
    }

    /// Asks once whether the user has decided (RFC 8628 section 3.4).
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn poll_device_authorization(&self) -> Result<DevicePoll, Error> {
        self.call(
            call!("poll_device_authorization"),
            Sends::Requests,
            |open| {
                Box::pin(async move {
                    let (guest, store, connection) = open.parts();
                    guest
                        .call_poll_device_authorization(store, connection)
                        .await
                })
            },
        )
        .await
    }

    /// Renews the token now, whether or not it is due.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn refresh(&self) -> Result<Token, Error> {
        self.call(call!("refresh"), Sends::Requests, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_refresh(store, connection).await
            })
        })
        .await
    }

    /// Forgets the credential. The config is the host's and stays.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn clear(&self) -> Result<(), Error> {
        self.call(call!("clear"), Sends::Nothing, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_clear(store, connection).await
            })
        })
        .await
    }

    /// Revokes the credential at the server (RFC 7009), then clears it.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn revoke(&self) -> Result<(), Error> {
        self.call(call!("revoke"), Sends::Requests, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_revoke(store, connection).await
            })
        })
        .await
    }

    /// What the server knows of the access token (RFC 7662), as JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn introspect(&self) -> Result<String, Error> {
        self.call(call!("introspect"), Sends::Requests, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_introspect(store, connection).await
            })
        })
        .await
    }

    /// The user's claims (OpenID Connect Core section 5.3), as JSON.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn userinfo(&self) -> Result<String, Error> {
        self.call(call!("userinfo"), Sends::Requests, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_userinfo(store, connection).await
            })
        })
        .await
    }

    /// What has happened to the connection, the latest last.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn history(&self) -> Result<Vec<Event>, Error> {
        self.call(call!("history"), Sends::Nothing, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_history(store, connection).await
            })
        })
        .await
    }

    /// Seals the stored records anew under the host's current key.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn reseal(&self) -> Result<(), Error> {
        self.call(call!("reseal"), Sends::Nothing, |open| {
            Box::pin(async move {
                let (guest, store, connection) = open.parts();
                guest.call_reseal(store, connection).await
            })
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
        let sending = self.send_authorized(request);
        observed(call!("send"), &self.inner.name, sending).await
    }

    async fn send_authorized(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let url = request.uri().to_string();
        let mut demands = Demands::default();
        loop {
            let authorizing = self.authorization(request.method(), &url, &demands);
            let authorization = authorizing.await?;
            let mut authorized = request.clone();
            authorization.put_on(authorized.headers_mut());
            let response = self.exchange(authorized).await?;
            if demands.made_by(&response, &authorization).is_none() {
                return Ok(response);
            }
        }
    }

    /// What authorizes one request; for a token that is not bound to a key it is
    /// the same for all, and kept for as long as the token is.
    pub(crate) async fn authorization(
        &self,
        method: &Method,
        url: &str,
        demands: &Demands,
    ) -> Result<Arc<Authorization>, Error> {
        let Demands { token, dpop_nonce } = demands;
        let authorize = async || {
            let (method, token) = (method.as_str(), token.clone());
            let headers = self.authorization_headers(method, url, token, dpop_nonce.as_deref());
            Authorization::of(headers.await?).map(Arc::new)
        };
        // A proof is made for each request.
        if self.inner.config.dpop {
            return authorize().await;
        }
        let token = self.token(token.clone()).await?;
        let last = self.handed_out().filter(|last| last.token == token);
        if let Some(kept) = last.as_ref().and_then(|last| last.authorization.get()) {
            return Ok(Arc::clone(kept));
        }
        let authorization = authorize().await?;
        if let Some(last) = last
            && *authorization.token == *last.token.access_token
            && authorization.is_for_any_request()
        {
            return Ok(Arc::clone(last.authorization.get_or_init(|| authorization)));
        }
        Ok(authorization)
    }

    /// Tells the host's sink of something that the host did for the connection.
    pub(crate) fn tell(&self, event: Event) {
        self.inner.host.services().events.emit(event);
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let options = each_within(self.timeout());
        let request = request.map(|body| Full::new(body).map_err(|e| match e {}).boxed_unsync());
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = self.http(None).await?.exchange(request, options).await;
        let response = response.map_err(|error| {
            let certificate = match Remark::on(&*error) {
                Some(Remark::Refusal(why)) => return Error::Forbidden(why),
                Some(Remark::Certificate(what)) => Some(what),
                None => None,
            };
            unsent(&host, failed(error), certificate)
        });
        let (parts, body) = response?.into_parts();
        let body = whole(body, RESPONSE_LIMIT).await;
        match body.map_err(|error| unsent(&host, error, None))? {
            Some(body) => Ok(Response::from_parts(parts, body)),
            None => Err(Error::Unsupported(
                "a response of more than 64 MiB; send the request with a client of your own \
                 and `authorization_headers`"
                    .to_owned(),
            )),
        }
    }

    /// Opens the connection in a fresh instance and makes a call there.
    async fn call<T: Send + 'static>(
        &self,
        kind: &'static Call,
        sends: Sends,
        make: impl for<'a> FnOnce(&'a mut Open) -> Making<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = self.clone();
        let calling = self.underway(async move |progress| {
            let places = connection.places(sends).await;
            let opened = connection.open(sends, places, progress).await?;
            let Opened {
                instance,
                mut store,
                connection: resource,
            } = opened;
            let mut open = Open {
                component: connection.host().runtime().exports(&mut store, &instance)?,
                store,
                connection: resource,
            };
            let made = make(&mut open).await;
            outcome(made, &open.store)
        });
        observed(kind, &self.inner.name, calling).await
    }

    /// A call that is finished whoever drops it, where breaking it off might lose
    /// what a server has given.
    fn underway<T, W>(&self, work: impl FnOnce(Arc<Progress>) -> W) -> Underway<T>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        let progress = Arc::default();
        let patience = self.timeout().saturating_add(AFTERWARDS);
        Underway::new(Arc::clone(&progress), patience, work(progress))
    }

    /// How long a request may take.
    fn timeout(&self) -> Duration {
        let seconds = self.inner.config.timeout;
        seconds.map_or(DEFAULT_TIMEOUT, |seconds| {
            Duration::from_secs(seconds.into())
        })
    }

    /// Whether the host's policy allows the config's `tls`; why it does not.
    fn tls_allowed(&self) -> Result<(), String> {
        let policy = &self.inner.host.services().policy;
        let (mode, allowed) = match self.inner.config.tls {
            TlsMode::Verify => return Ok(()),
            TlsMode::Trust => ("trust", policy.tls_trust),
            TlsMode::Off => ("off", policy.tls_off),
        };
        if allowed {
            return Ok(());
        }
        Err(format!("`tls: {mode}` is not allowed by this host"))
    }

    /// What the connection's own requests are held to.
    fn rules(&self) -> Arc<Rules> {
        let config = &self.inner.config;
        let rules = self.inner.rules.get_or_init(|| {
            Arc::new(Rules {
                egress: Egress::of(config, self.timeout()),
                cookies: (!config.ignore_cookie_policy).then(|| self.witness()),
            })
        });
        Arc::clone(rules)
    }

    fn witness(&self) -> Witness {
        Witness {
            connection: Arc::clone(&self.inner.name),
            events: Arc::clone(&self.inner.host.services().events),
        }
    }

    /// The certificates imported for the connection.
    fn trust_file(&self) -> TrustFile {
        TrustFile {
            store: Arc::clone(&self.inner.host.services().store),
            witness: self.witness(),
        }
    }

    /// Forgets how servers were first met, and the certificates of theirs that were
    /// imported (`tls: trust`), so that each is met anew.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Forbidden`].
    pub async fn clear_trust(&self) -> Result<(), Error> {
        let clearing = self.trust_file().clear().await;
        clearing.map_err(|error| {
            let (kind, message) = match error {
                StoreError::Denied(why) => return Error::Forbidden(why),
                StoreError::Corrupt(what) => (StorageFailureKind::Corrupt, what),
                StoreError::Unavailable(what) => (StorageFailureKind::Unavailable, what),
            };
            Error::Storage(StorageFailure { kind, message })
        })
    }

    /// What the connection sends through, or a plugin with its token: with its client
    /// certificate, where it has one (RFC 8705), and judging those of servers as the
    /// config says.
    pub(crate) async fn http(&self, plugin: Option<&Arc<str>>) -> Result<Arc<HttpClient>, Error> {
        self.tls_allowed().map_err(Error::Forbidden)?;
        let judgement = match self.inner.config.tls {
            TlsMode::Verify => Judgement::System,
            TlsMode::Trust => Judgement::Trusted(self.trust_file()),
            TlsMode::Off => Judgement::Anything(self.witness()),
        };
        let identity = self.identity().await?;
        let manner = Manner {
            identity,
            judgement,
        };
        Ok(self.inner.host.services().http.client(manner, plugin))
    }

    /// The client certificate.
    async fn identity(&self) -> Result<Option<Identity>, Error> {
        let config = &self.inner.config;
        let (Some(certificate), Some(key)) =
            (&config.client_certificate, &config.client_certificate_key)
        else {
            return Ok(None);
        };
        let resolve = async |field: &str, reference: &str| {
            let resolved = self.inner.host.services().secrets.resolve(reference).await;
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
        Ok(Some(identity))
    }

    /// The places that a call must have before it may have an instance.
    async fn places(&self, sends: Sends) -> Places {
        match sends {
            Sends::Nothing | Sends::RequestsOfAUser => Places::default(),
            Sends::Requests => {
                let server = self.inner.server.get_or_init(|| {
                    let servers = &self.inner.host.services().servers;
                    servers.queue(&server_of(&self.inner.config))
                });
                Places::take([&self.inner.queue, server]).await
            }
        }
    }

    async fn open(
        &self,
        sends: Sends,
        places: Places,
        progress: Arc<Progress>,
    ) -> Result<Opened, Error> {
        let host = &self.inner.host;
        let http = match sends {
            Sends::Nothing => {
                GuestHttp::new(host.services().http.anonymous(), Reach::Nowhere, progress)
            }
            Sends::Requests | Sends::RequestsOfAUser => {
                let connection = self.clone();
                let rules = Reach::By(Box::new(move || connection.rules()));
                GuestHttp::new(self.http(None).await?, rules, progress)
            }
        };
        let (instance, mut store) = host.instance(http, places).await?;
        let drawing = &host.runtime().drawing;
        let opening = drawing.open(&mut store, &instance, &self.inner.name, &self.inner.config);
        Ok(Opened {
            connection: opening.await??,
            instance,
            store,
        })
    }
}

/// What stands for the server that a connection's token comes from.
fn server_of(config: &Config) -> String {
    let url = config.token_endpoint.as_ref().or(config.issuer.as_ref());
    let origin = url.and_then(|url| Origin::of(&url.parse().ok()?));
    match origin {
        Some(origin) => origin.to_string(),
        None => config.provider.clone().unwrap_or_default(),
    }
}

/// What a call came to.
fn outcome<T>(
    made: wasmtime::Result<Result<T, ConnectionError>>,
    store: &Placed,
) -> Result<T, Error> {
    let error = match made? {
        Ok(made) => return Ok(made),
        Err(error) => Error::from(error),
    };
    // The component is told in the few words that `wasi:http` has, and takes
    // it for a failure of the network.
    match (store.data().guest_http.take_remark(), error) {
        (Some(Remark::Refusal(why)), _) => Err(Error::Forbidden(why)),
        (Some(Remark::Certificate(what)), Error::Unavailable(mut failure)) => {
            failure.cause = format!("{}: {what}", failure.cause);
            Err(Error::Unavailable(failure))
        }
        (_, error) => Err(error),
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

/// A connection that is open in an instance of its own.
struct Opened {
    instance: Instance,
    store: Placed,
    connection: ResourceAny,
}

/// The same, with all that the instance exports.
struct Open {
    component: InteractiveConnection,
    store: Placed,
    connection: ResourceAny,
}

impl Open {
    fn parts(&mut self) -> (GuestConnection<'_>, &mut Placed, ResourceAny) {
        let guest = self.component.tokenwell_oauth2_connections().connection();
        (guest, &mut self.store, self.connection)
    }
}

/// What a resource server has demanded of the next try of a request.
#[derive(Default)]
pub(crate) struct Demands {
    token: TokenOptions,
    dpop_nonce: Option<String>,
}

/// One thing that a resource server can demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Another nonce in the proof.
    Nonce,
    /// Another token than the one that it was sent.
    Token,
}

impl Demands {
    /// Takes down what a response demands, each thing once.
    pub(crate) fn made_by<B>(
        &mut self,
        response: &Response<B>,
        sent: &Authorization,
    ) -> Option<Demand> {
        let challenges = challenges(response);
        let nonce = response.headers().get("dpop-nonce");
        if challenges.iter().any(Challenge::wants_nonce)
            && let Some(nonce) = nonce.and_then(|nonce| nonce.to_str().ok())
            && self.dpop_nonce.is_none()
        {
            self.dpop_nonce = Some(nonce.to_owned());
            return Some(Demand::Nonce);
        }
        if challenges.iter().any(Challenge::refuses_token) && self.token.rejected.is_none() {
            self.token.rejected = Some(sent.token.to_string());
            return Some(Demand::Token);
        }
        None
    }
}

/// What a resource server asks for where it refuses a request.
fn challenges<B>(response: &Response<B>) -> Vec<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return Vec::new();
    }
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let headers = headers.filter_map(|value| value.to_str().ok());
    headers.flat_map(challenge::read).collect()
}

fn unsent(host: &str, error: wasmtime_wasi_http::Error, certificate: Option<String>) -> Error {
    match error {
        wasmtime_wasi_http::Error::HttpRequestDenied => {
            Error::Forbidden("the URL is neither https nor on the loopback interface".to_owned())
        }
        error => Error::Unavailable(Unavailability {
            cause: match certificate {
                Some(what) => format!("{host}: the server's certificate is not trusted: {what}"),
                None => format!("{host}: {error}"),
            },
            retry_at: None,
        }),
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(error.into())
}
