//! The one HTTP client of a host: HTTP/1.1 and HTTP/2, connections pooled, the
//! system's roots, redirects not followed, plain http on the loopback interface
//! only. Instances reach it through `wasi:http`.

pub(crate) mod addresses;
mod certificates;
mod cookies;
mod egress;
mod identity;
mod origin;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{self, Sleep};
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

pub(crate) use certificates::{Judgement, TrustFile};
pub(crate) use egress::Egress;
pub(crate) use identity::{HttpClients, Identity, Malformed};
pub(crate) use origin::Origin;

use addresses::{PrivateAddress, Resolver};
use certificates::{Anything, Judge, Replaced, unstored};
use egress::Denial;
use origin::Gates;

use crate::contract::Event;
use crate::events::EventSink;
use crate::network::NetworkPolicy;
use crate::underway::Progress;

/// What holds where a request names no timeout.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an unused connection is kept. Shorter than what most servers keep
/// theirs for, so that a request seldom meets one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

tokio::task_local! {
    /// The connect timeout of the request that a task is sending: a pooled
    /// client does not tell its connector which request it connects for.
    static CONNECT_TIMEOUT: Duration;
}

/// What distinguishes one client from another: connections are pooled by it.
pub(crate) struct Manner {
    /// The certificate shown to whoever asks for one.
    pub(crate) identity: Option<Identity>,
    /// How the certificates of servers are judged.
    pub(crate) judgement: Judgement,
}

/// What all clients of a host have in common.
pub(crate) struct Shared {
    policy: NetworkPolicy,
    /// Before the servers, for all but plugins.
    gates: Arc<Gates>,
    proxies: Option<Matcher>,
    /// The TLS client of those who show no certificate and judge by the system's
    /// roots.
    tls: LazyTls,
}

/// Set up by the first https request: to read the system's roots takes longer than
/// a command that needs no server.
type LazyTls = Arc<OnceCell<Arc<ClientConfig>>>;

impl Shared {
    pub(crate) fn new(policy: NetworkPolicy) -> Self {
        Self {
            gates: Arc::new(Gates::new(policy.in_flight_per_origin.get())),
            tls: LazyTls::default(),
            proxies: policy.proxy_from_environment.then(Matcher::from_env),
            policy,
        }
    }

    /// Gates for somebody who is to hold up nobody else.
    fn gates_apart(&self) -> Arc<Gates> {
        Arc::new(Gates::new(self.policy.in_flight_per_origin.get()))
    }
}

/// Sends requests over pooled connections.
pub(crate) struct HttpClient {
    pooled: Client<Connector, WasiBody>,
    shared: Arc<Shared>,
    gates: Arc<Gates>,
    /// Told of each request to a server whose certificate nobody judges.
    unjudged: Option<Witness>,
}

impl HttpClient {
    pub(crate) fn new(shared: Arc<Shared>, manner: Manner) -> Self {
        let gates = Arc::clone(&shared.gates);
        Self::through(gates, shared, manner)
    }

    /// One that nobody else is held up by.
    pub(crate) fn apart(shared: Arc<Shared>, manner: Manner) -> Self {
        Self::through(shared.gates_apart(), shared, manner)
    }

    /// Whether it is one of those and requests of it are under way: another in its
    /// place would let as many more.
    pub(crate) fn has_places_apart(&self) -> bool {
        !Arc::ptr_eq(&self.gates, &self.shared.gates) && self.gates.are_in_use()
    }

    fn through(gates: Arc<Gates>, shared: Arc<Shared>, manner: Manner) -> Self {
        let tls = match manner {
            Manner {
                identity: None,
                judgement: Judgement::System,
            } => Arc::clone(&shared.tls),
            _ => LazyTls::default(),
        };
        let unjudged = match &manner.judgement {
            Judgement::Anything(witness) => Some(witness.clone()),
            _ => None,
        };
        let pooled = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(Connector {
                tcp: tcp_by(Resolver::new(&shared.policy)),
                tls,
                system: Arc::default(),
                manner: Arc::new(manner),
                shared: Arc::clone(&shared),
            });
        Self {
            pooled,
            shared,
            gates,
            unjudged,
        }
    }

    /// Sends a request and returns the response once its head is there; the
    /// body is read as the caller asks for it.
    pub(crate) async fn send(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let sending = self.exchange(request, options);
        sending.await.map_err(|error| {
            // `wasi:http` has no words for it, and nobody here to take a refusal.
            let unknown = causes(&*error).find(|cause| cause.is::<UnknownProxy>());
            match unknown {
                Some(unknown) => Error::InternalError(Some(unknown.to_string())),
                None => failed(error),
            }
        })
    }

    /// The same, with what it failed with.
    pub(crate) async fn exchange(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, BoxError> {
        let uri = request.uri();
        let origin = Origin::of(uri).filter(|_| is_allowed(uri));
        let origin = origin.ok_or(Error::HttpRequestDenied)?;
        if !self.shared.policy.private_addresses && addresses::is_private_literal(uri) {
            return Err(addresses::private(origin.server()).into());
        }
        if let Some(witness) = &self.unjudged
            && uri.scheme() == Some(&Scheme::HTTPS)
        {
            let server = origin.server();
            let message =
                format!("a request to {server}, whose certificate nobody judges: tls is off");
            witness.tell("insecure", &server, message);
        }
        let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);

        let answered = async {
            let place = self.gates.enter(origin).await;
            let response = CONNECT_TIMEOUT.scope(connect, self.pooled.request(request));
            Ok::<_, BoxError>((response.await?, place))
        };
        let (response, place) = time::timeout(connect.saturating_add(first_byte), answered)
            .await
            .map_err(|_| Error::HttpResponseTimeout)??;
        Ok(response.map(|incoming| {
            TimedBody {
                incoming,
                between_bytes,
                pause: Box::pin(time::sleep(between_bytes)),
                _place: place,
            }
            .boxed_unsync()
        }))
    }
}

/// Connects by TCP, for a scheme of whatever name.
fn tcp_by(resolver: Resolver) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp
}

/// The TLS client of a manner. Where the system has no roots it believes nobody,
/// so that a host can be built on such a machine.
fn tls_config(
    identity: Option<&Identity>,
    verifier: Option<Arc<dyn ServerCertVerifier>>,
) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let verifying = match verifier {
        Some(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(verifier),
        None => match builder.clone().try_with_platform_verifier() {
            Ok(verifying) => verifying,
            Err(_) => builder.with_root_certificates(RootCertStore::empty()),
        },
    };
    let mut config = match identity.cloned() {
        None => verifying.with_no_client_auth(),
        Some(Identity { certificates, key }) => verifying
            .with_client_auth_cert(certificates, key)
            .map_err(io::Error::other)?,
    };
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok(config)
}

/// https anywhere, http to this machine only.
fn is_allowed(uri: &Uri) -> bool {
    let Some(host) = uri.host() else {
        return false;
    };
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return true;
    }
    uri.scheme() == Some(&Scheme::HTTP) && addresses::is_loopback(host)
}

/// The options of a request of which no part may take longer than that.
pub(crate) fn each_within(limit: Duration) -> RequestOptions {
    RequestOptions {
        connect_timeout: Some(limit),
        first_byte_timeout: Some(limit),
        between_bytes_timeout: Some(limit),
    }
}

/// A body as a whole; none where it is longer than that many bytes.
pub(crate) async fn whole(mut body: WasiBody, limit: usize) -> Result<Option<Bytes>, Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if data.len() > limit - whole.len() {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

/// What an instance sends through.
pub(crate) struct GuestHttp {
    client: Arc<HttpClient>,
    reach: Reach,
    progress: Arc<Progress>,
    remark: Arc<Mutex<Option<Remark>>>,
}

/// What there is to say of a failed request that `wasi:http` has no words for.
pub(crate) enum Remark {
    /// Why the host has refused something that was asked of it.
    Refusal(String),
    /// What is wrong with the certificate of the server that was asked last.
    Certificate(String),
}

impl Remark {
    /// What there is to say of that failure.
    pub(crate) fn on(error: &(dyn StdError + 'static)) -> Option<Self> {
        let refusal = refused(error).map(Self::Refusal);
        refusal.or_else(|| certificate_problem(error).map(Self::Certificate))
    }
}

/// How far the requests of an instance may go.
pub(crate) enum Reach {
    /// It is to send none.
    Nowhere,
    /// Where these rules allow.
    By(RulesOf),
    /// Wherever requests may go at all: what is asked for is no connection's.
    Anywhere,
}

/// Gives the rules of a connection. Most calls send nothing and need none.
pub(crate) type RulesOf = Box<dyn Fn() -> Arc<Rules> + Send + Sync>;

/// What a connection's own requests are held to.
pub(crate) struct Rules {
    pub(crate) egress: Egress,
    /// Told where a cookie breaks the policy.
    pub(crate) cookies: Option<Witness>,
}

/// Who is told what a connection's requests came upon.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) connection: Arc<str>,
    pub(crate) events: Arc<dyn EventSink>,
}

impl Witness {
    fn tell(&self, kind: &str, server: &str, message: String) {
        let mut event = Event::now(&self.connection, kind, message);
        event.detail("server", server);
        self.events.emit(event);
    }
}

impl Rules {
    pub(crate) fn of_requests_to(egress: Egress) -> Self {
        Self {
            egress,
            cookies: None,
        }
    }

    fn after(&self, uri: &Uri, response: &Response<WasiBody>) {
        if let Some(witness) = &self.cookies {
            for what in cookies::violations(uri, response.headers()) {
                let server = uri.host().unwrap_or_default();
                let message = format!("a cookie of {server} {what}; it is left out of account");
                witness.tell("cookie-refused", server, message);
            }
        }
    }
}

impl GuestHttp {
    pub(crate) fn new(client: Arc<HttpClient>, reach: Reach, progress: Arc<Progress>) -> Self {
        Self {
            client,
            reach,
            progress,
            remark: Arc::default(),
        }
    }

    /// What is known of the call that sends.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What there is to say of why a request failed.
    pub(crate) fn take_remark(&self) -> Option<Remark> {
        self.remark
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// What becomes of a request or response once it is on its way; nothing here.
pub(crate) type Processing = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Whether `wasi:http` is to say the host. The client does that itself, in HTTP/2
/// as `:authority`; nginx, for one, refuses a request that says it twice.
pub(crate) const SAYS_HOST: bool = false;

impl WasiHttpHooks for GuestHttp {
    fn set_host_header(&mut self) -> bool {
        SAYS_HOST
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Processing,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Processing), Error>> + Send> {
        let client = Arc::clone(&self.client);
        let kept = Arc::clone(&self.remark);
        let remark = move |remark: Remark| {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(remark);
        };
        // What was said of an earlier server is not said of this one; why a request
        // was refused stays until there is another in its place.
        let is_in_its_place = is_more_than_reading(&request);
        self.remark
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|remark| is_in_its_place || matches!(remark, Remark::Certificate(_)));
        let rules = match &self.reach {
            Reach::Nowhere => {
                let why = "a request in a call that is to send none".to_owned();
                remark(Remark::Refusal(why));
                return Box::new(async { Err(Error::HttpRequestDenied) });
            }
            Reach::By(rules) => Some(rules()),
            Reach::Anywhere => None,
        };
        if is_more_than_reading(&request) {
            self.progress.unsettle();
        }
        Box::new(async move {
            let uri = request.uri().clone();
            if let Some(rules) = &rules
                && let Err(denial) = rules.egress.permits(&uri, &client).await
            {
                let Denial::Unnamed(origin) = denial else {
                    // It may be known another time.
                    return Err(Error::DestinationUnavailable);
                };
                remark(Remark::Refusal(format!(
                    "a request to {origin}, which neither the config nor its provider nor the issuer's metadata names"
                )));
                return Err(Error::HttpRequestDenied);
            }
            let sending = client.exchange(request, options.unwrap_or_default());
            let response = sending.await.map_err(|error| {
                if let Some(told) = Remark::on(&*error) {
                    remark(told);
                }
                failed(error)
            })?;
            if let Some(rules) = &rules {
                rules.after(&uri, &response);
            }
            let processed: Processing = Box::new(async { Ok(()) });
            Ok((response, processed))
        })
    }
}

/// Whether a server may act on a request: it is posted, or it is one of those token
/// requests that have their parameters in the query, as some providers want it.
fn is_more_than_reading<B>(request: &Request<B>) -> bool {
    request.method() != Method::GET || request.uri().query().is_some()
}

/// Connects within the time that the request allows, TLS included.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector<Resolver>,
    tls: LazyTls,
    /// The system's verifier, for the handshakes that need more besides.
    system: Arc<OnceCell<Option<Arc<Verifier>>>>,
    manner: Arc<Manner>,
    shared: Arc<Shared>,
}

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

impl Connector {
    async fn connect(mut self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
        let Some(origin) = Origin::of(&uri).filter(|_| uri.scheme() == Some(&Scheme::HTTPS)) else {
            return Ok(MaybeHttpsStream::Http(self.tcp.call(uri).await?));
        };
        let Judgement::Trusted(trust) = &self.manner.judgement else {
            let manner = Arc::clone(&self.manner);
            let set_up = || async {
                let config = spawn_blocking(move || {
                    let verifier: Option<Arc<dyn ServerCertVerifier>> = match manner.judgement {
                        Judgement::Anything(_) => Some(Arc::new(Anything::new())),
                        _ => None,
                    };
                    tls_config(manner.identity.as_ref(), verifier)
                });
                config.await?.map(Arc::new)
            };
            let tls = Arc::clone(self.tls.get_or_try_init(set_up).await?);
            return self.secure(uri, tls).await;
        };
        let server = origin.server();
        let held_to = trust.held_to(&server).await.map_err(unstored)?;
        let system = self.system.get_or_try_init(|| {
            spawn_blocking(|| {
                let verifier = Verifier::new(Arc::new(ring::default_provider()));
                verifier.ok().map(Arc::new)
            })
        });
        let judge = Arc::new(Judge::new(server, held_to, system.await?.clone()));
        let identity = self.manner.identity.as_ref();
        let tls = tls_config(identity, Some(Arc::clone(&judge) as _))?;
        let trust = trust.clone();
        let stream = self.secure(uri, Arc::new(tls)).await?;
        // Before anything is sent.
        judge.conclude(&trust).await?;
        Ok(stream)
    }

    /// Connects by TLS: directly, or through the tunnel of a proxy.
    async fn secure(
        self,
        uri: Uri,
        tls: Arc<ClientConfig>,
    ) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
        let proxy = self
            .shared
            .proxies
            .as_ref()
            .and_then(|proxies| proxies.intercept(&uri));
        let Some(proxy) = proxy else {
            return HttpsConnector::from((self.tcp, tls)).call(uri).await;
        };
        if proxy.uri().scheme() != Some(&Scheme::HTTP) {
            let scheme = proxy.uri().scheme_str().unwrap_or_default();
            return Err(UnknownProxy(scheme.to_owned()).into());
        }
        let tcp = tcp_by(Resolver::of_proxies());
        let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        HttpsConnector::from((tunnel, tls)).call(uri).await
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = CONNECT_TIMEOUT.try_get().unwrap_or(DEFAULT_TIMEOUT);
        let connecting = self.clone().connect(uri);
        Box::pin(async move {
            match time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

/// A proxy that is not asked for a tunnel, since it does not speak plain HTTP; its
/// scheme.
#[derive(Debug)]
struct UnknownProxy(String);

impl fmt::Display for UnknownProxy {
    // Without its address: a plugin may hear of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(scheme) = self;
        write!(
            f,
            "the environment (HTTPS_PROXY, ALL_PROXY) names a proxy by {scheme}://, and only one by http:// is asked \
             for a tunnel"
        )
    }
}

impl StdError for UnknownProxy {}

/// A response body that fails when nothing of it comes for too long.
struct TimedBody {
    incoming: Incoming,
    between_bytes: Duration,
    pause: Pin<Box<Sleep>>,
    /// The request is under way until its response is here.
    _place: Option<OwnedSemaphorePermit>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let next = time::Instant::now() + this.between_bytes;
                this.pause.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(failed(error.into())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => this
                .pause
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err(Error::ConnectionReadTimeout))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The `wasi:http` error for what an exchange failed with: the first cause that
/// says what it was.
pub(crate) fn failed(error: BoxError) -> Error {
    // The resolver's failure hides it.
    if causes(&*error).any(|cause| cause.is::<PrivateAddress>()) {
        return Error::DestinationIpProhibited;
    }
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => causes(&*error)
            .find_map(known_error)
            .unwrap_or(Error::HttpProtocolError),
    }
}

/// Why the host refused to go on, where it was the host that did.
fn refused(error: &(dyn StdError + 'static)) -> Option<String> {
    causes(error).find_map(|cause| match cause.downcast_ref() {
        // The system's verifier has reasons of its own in the same place.
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
            if other.0.is::<Replaced>() =>
        {
            Some(other.to_string())
        }
        _ if cause.is::<Replaced>()
            || cause.is::<PrivateAddress>()
            || cause.is::<UnknownProxy>() =>
        {
            Some(cause.to_string())
        }
        _ => None,
    })
}

/// What is wrong with the server's certificate, where that is what is.
fn certificate_problem(error: &(dyn StdError + 'static)) -> Option<String> {
    causes(error).find_map(|cause| {
        let Some(rustls::Error::InvalidCertificate(what)) = cause.downcast_ref() else {
            return None;
        };
        Some(match what {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "it has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is for another host".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "nobody whom this system trusts has issued it".to_owned()
            }
            CertificateError::Revoked => "it has been revoked".to_owned(),
            // The verifier has a name for it alone.
            CertificateError::Other(other) => match other.to_string().as_str() {
                "CaUsedAsEndEntity" => {
                    "it is an authority's own, with which no server may answer".to_owned()
                }
                other => other.to_owned(),
            },
            what => what.to_string(),
        })
    })
}

/// An error, and what it was made of.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An `io::Error` made of another error skips that one as its source.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

fn known_error(error: &(dyn StdError + 'static)) -> Option<Error> {
    if error.is::<Replaced>() {
        return Some(Error::TlsCertificateError);
    }
    if error.is::<UnknownProxy>() {
        return Some(Error::HttpRequestDenied);
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
            rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
                alert_id: Some(u8::from(*alert)),
                alert_message: Some(format!("{alert:?}")),
            },
            _ => Error::TlsProtocolError,
        });
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return if error.is_incomplete_message() {
            Some(Error::HttpResponseIncomplete)
        } else if error.is_parse_too_large() {
            Some(Error::HttpResponseHeaderSectionSize(None))
        } else {
            None
        };
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
            io::ErrorKind::TimedOut => Some(Error::ConnectionTimeout),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(Error::ConnectionTerminated),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Some(Error::DestinationUnavailable)
            }
            _ => None,
        };
    }
    // The resolver's error has no type of its own to be known by.
    error
        .to_string()
        .starts_with("dns error")
        .then(|| Error::DnsError {
            rcode: None,
            info_code: None,
        })
}

#[cfg(test)]
mod tests;
