//! An authorization server that issues tokens as fast as it can, with an API
//! beside it. It has a thread of its own, so that it costs both sides of a
//! comparison the same.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::time;
use tokio_rustls::TlsAcceptor;

use crate::Failure;

/// The server. It runs for as long as the program.
pub struct Server {
    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    pub origin: String,
    /// Its certificate in DER, where it has one.
    pub certificate: Option<Vec<u8>>,
    pub state: Arc<State>,
}

/// What it does, and what it has seen.
pub struct State {
    /// The lifetime of the tokens, in seconds.
    pub expires_in: AtomicU64,
    /// How long it considers each request for a token, in milliseconds.
    pub considers: AtomicU64,
    /// How many tokens it has issued.
    pub issued: AtomicUsize,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
}

impl State {
    /// The most requests for tokens that were in flight at once since this was
    /// last asked.
    pub fn peak(&self) -> usize {
        self.peak.swap(0, Ordering::Relaxed)
    }
}

impl Server {
    /// One that speaks plain HTTP/1.1.
    pub fn http() -> Result<Self, Failure> {
        Self::start(None)
    }

    /// One that speaks TLS, and within it whatever the client prefers.
    pub fn https() -> Result<Self, Failure> {
        let key = KeyPair::generate()?;
        let own = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let tls = TlsAcceptor::from(Arc::new(config));
        Self::start(Some((tls, own.der().to_vec())))
    }

    fn start(tls: Option<(TlsAcceptor, Vec<u8>)>) -> Result<Self, Failure> {
        let (tls, certificate) = tls.unzip();
        let state = Arc::new(State {
            expires_in: AtomicU64::new(3600),
            considers: AtomicU64::new(0),
            issued: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        let scheme = if tls.is_some() {
            "https://localhost"
        } else {
            "http://127.0.0.1"
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            runtime.block_on(async {
                let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let listener = TcpListener::bind(here).await;
                let listening = listener.and_then(|listener| {
                    let address = listener.local_addr()?;
                    Ok((listener, address))
                });
                let listener = match listening {
                    Ok((listener, address)) => {
                        // Somebody waits for it.
                        let _ = tell.send(Ok(address.port()));
                        listener
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                        return;
                    }
                };
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
                }
            });
        });
        Ok(Self {
            origin: format!("{scheme}:{}", told.recv()??),
            certificate,
            state,
        })
    }
}

/// Serves a connection to its end; one that breaks off is the client's affair.
async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, &state).await) }
    });
    let Some(tls) = tls else {
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let _ = served.await;
        return;
    };
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if is_http2 {
        let builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(stream, service).await;
    } else {
        let _ = http1::Builder::new()
            .serve_connection(stream, service)
            .await;
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let is_authorized = request.headers().contains_key(AUTHORIZATION);
    let is_for_token = request.uri().path() == "/token";
    let refused = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    let Ok(body) = request.into_body().collect().await else {
        return refused(StatusCode::BAD_REQUEST);
    };
    // Neither side shall be fast because it is refused.
    if !is_authorized {
        return refused(StatusCode::UNAUTHORIZED);
    }
    let text = if is_for_token {
        let form = body.to_bytes();
        let asks = b"grant_type=client_credentials";
        if !form.windows(asks.len()).any(|window| window == asks) {
            return refused(StatusCode::BAD_REQUEST);
        }
        let in_flight = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        state.peak.fetch_max(in_flight, Ordering::Relaxed);
        let considers = state.considers.load(Ordering::Relaxed);
        if considers > 0 {
            time::sleep(Duration::from_millis(considers)).await;
        }
        state.in_flight.fetch_sub(1, Ordering::Relaxed);
        let number = state.issued.fetch_add(1, Ordering::Relaxed);
        let lifetime = state.expires_in.load(Ordering::Relaxed);
        format!(
            r#"{{"access_token":"{number:040x}","token_type":"Bearer","expires_in":{lifetime},"scope":"contacts:read"}}"#
        )
    } else {
        r#"{"id":1,"name":"Ada"}"#.to_owned()
    };
    let mut response = Response::new(Full::new(text.into()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
