//! The one HTTP client of a host: HTTP/1.1 and HTTP/2, connections pooled, the
//! system's roots, redirects not followed, plain http on the loopback interface
//! only. Instances reach it through `wasi:http`.

mod identity;

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::{self, Sleep};
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

pub(crate) use identity::{HttpClients, Identity, Malformed};

/// What holds where a request names no timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an unused connection is kept. Shorter than what most servers keep
/// theirs for, so that a request seldom meets one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

tokio::task_local! {
    /// The connect timeout of the request that a task is sending: a pooled
    /// client does not tell its connector which request it connects for.
    static CONNECT_TIMEOUT: Duration;
}

/// Sends requests over pooled connections.
pub(crate) struct HttpClient {
    pooled: Client<Connector, WasiBody>,
}

impl HttpClient {
    /// A client that shows that certificate to whoever asks for one.
    pub(crate) fn new(identity: Option<Identity>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let pooled = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(Connector {
                tcp,
                tls: Arc::default(),
                identity: identity.map(Arc::new),
            });
        Self { pooled }
    }

    /// Sends a request and returns the response once its head is there; the
    /// body is read as the caller asks for it.
    pub(crate) async fn send(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        if !is_allowed(request.uri()) {
            return Err(Error::HttpRequestDenied);
        }
        let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);

        let response = CONNECT_TIMEOUT.scope(connect, self.pooled.request(request));
        let response = time::timeout(connect.saturating_add(first_byte), response)
            .await
            .map_err(|_| Error::HttpResponseTimeout)?
            .map_err(|error| error_code(&error))?;
        Ok(response.map(|incoming| {
            TimedBody {
                incoming,
                between_bytes,
                pause: Box::pin(time::sleep(between_bytes)),
            }
            .boxed_unsync()
        }))
    }
}

/// The TLS client: the system's verifier, or where the system has no roots one
/// that believes nobody, so that a host can be built on such a machine.
fn tls_config(identity: Option<&Identity>) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let verifying = match builder.clone().try_with_platform_verifier() {
        Ok(verifying) => verifying,
        Err(_) => builder.with_root_certificates(RootCertStore::empty()),
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
    let address = host.trim_start_matches('[').trim_end_matches(']');
    uri.scheme() == Some(&Scheme::HTTP)
        && (host.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// What an instance sends through.
pub(crate) struct GuestHttp(Arc<HttpClient>);

impl GuestHttp {
    pub(crate) fn new(client: Arc<HttpClient>) -> Self {
        Self(client)
    }
}

type Processing = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for GuestHttp {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Processing,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Processing), Error>> + Send> {
        let client = Arc::clone(&self.0);
        Box::new(async move {
            let response = client.send(request, options.unwrap_or_default()).await?;
            let processed: Processing = Box::new(async { Ok(()) });
            Ok((response, processed))
        })
    }
}

/// Connects within the time that the request allows, TLS included.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    /// Set up by the first https request: to read the system's roots takes
    /// longer than a command that needs no server.
    tls: Arc<OnceCell<Arc<ClientConfig>>>,
    identity: Option<Arc<Identity>>,
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Connector {
    async fn connect(mut self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(MaybeHttpsStream::Http(self.tcp.call(uri).await?));
        }
        let identity = self.identity.clone();
        let set_up = || async {
            let config = spawn_blocking(move || tls_config(identity.as_deref()));
            config.await?.map(Arc::new)
        };
        let tls = Arc::clone(self.tls.get_or_try_init(set_up).await?);
        HttpsConnector::from((self.tcp, tls)).call(uri).await
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

/// A response body that fails when nothing of it comes for too long.
struct TimedBody {
    incoming: Incoming,
    between_bytes: Duration,
    pause: Pin<Box<Sleep>>,
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
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error_code(&error)))),
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

/// The `wasi:http` error for what the client failed with: the first cause that
/// says what it was.
fn error_code(error: &(dyn StdError + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = known_error(error) {
            return code;
        }
        // An `io::Error` made of another error skips that one as its source.
        cause = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    Error::HttpProtocolError
}

fn known_error(error: &(dyn StdError + 'static)) -> Option<Error> {
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
                Some(Error::DestinationIpUnroutable)
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
