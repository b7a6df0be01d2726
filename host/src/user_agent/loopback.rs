mod page;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time;

use self::page::{error_response, outcome_page};
use super::{Arrival, Listener};
use crate::contract::{Outcome, Redirect, UserAgentError};
use crate::http_client::addresses;

/// The redirect URI where the host may choose.
const DEFAULT_URI: &str = "http://127.0.0.1/oauth2";

/// How often, and how far apart, a port that is taken is tried.
const BIND_ATTEMPTS: u32 = 10;
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// How long a client may take to send its request.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for a client to take the page.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// How many connections are open at a time. When there is one more, the oldest
/// that has not sent its request yet has to go.
const CONNECTION_LIMIT: usize = 64;

/// The longest request head, in bytes.
const HEAD_LIMIT: usize = 32 << 10;

/// The longest form, in bytes.
const FORM_LIMIT: usize = 64 << 10;

/// A listener for redirects on the loopback interface (RFC 8252 section 7.3).
/// What is not a GET, or a POST of a form, for the redirect URI itself is
/// turned away without anybody hearing of it; what is, gets a page that says
/// how it went, once that is known.
pub struct LoopbackListener {
    redirect_uri: String,
    arrivals: mpsc::Receiver<LoopbackArrival>,
    accepting: Vec<AbortHandle>,
}

impl LoopbackListener {
    /// Listens on the given redirect URI, or on `http://127.0.0.1:PORT/oauth2`
    /// with any free port. A URI that names no port gets any free one (RFC 8252
    /// section 7.3), and one that does is sent as it is written, since servers
    /// compare it so; one that names `localhost` is listened on at both loopback
    /// addresses. `connection` is the name that the page shows.
    ///
    /// # Errors
    /// `Unavailable` where the URI is not one of the loopback interface or its
    /// port is taken.
    pub async fn bind(
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Self, UserAgentError> {
        let place = Place::parse(redirect_uri.unwrap_or(DEFAULT_URI))?;
        let (sockets, port) = place.bind().await.map_err(|error| {
            UserAgentError::Unavailable(format!(
                "cannot listen for the redirect on {}{}: {error}",
                place.host,
                place
                    .port
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default(),
            ))
        })?;

        let redirect_uri = place.redirect_uri(port);
        let address = redirect_uri
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned();
        let (sender, arrivals) = mpsc::channel(CONNECTION_LIMIT);
        let site = Arc::new(Site {
            connection: connection.to_owned(),
            host: format!("{}:{port}", place.host),
            bare_host: (port == 80).then_some(place.host),
            path: place.path,
            address,
            arrivals: sender,
        });
        let accepting = sockets
            .into_iter()
            .map(|socket| tokio::spawn(accept(socket, Arc::clone(&site))).abort_handle())
            .collect();
        Ok(Self {
            redirect_uri,
            arrivals,
            accepting,
        })
    }
}

#[async_trait]
impl Listener for LoopbackListener {
    fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    async fn next(&mut self, wait: Duration) -> Result<Option<Box<dyn Arrival>>, UserAgentError> {
        match time::timeout(wait, self.arrivals.recv()).await {
            Ok(Some(arrival)) => Ok(Some(Box::new(arrival))),
            Ok(None) => Err(UserAgentError::Unavailable(
                "the redirect listener has stopped".to_owned(),
            )),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for LoopbackListener {
    fn drop(&mut self) {
        for task in &self.accepting {
            task.abort();
        }
    }
}

/// A redirect that has arrived at a [`LoopbackListener`].
struct LoopbackArrival {
    redirect: Redirect,
    outcome: Option<oneshot::Sender<Outcome>>,
    /// Ends when the connection has been closed, the page with it.
    closed: oneshot::Receiver<Infallible>,
}

#[async_trait]
impl Arrival for LoopbackArrival {
    fn redirect(&self) -> Redirect {
        self.redirect.clone()
    }

    async fn respond(&mut self, outcome: Outcome) {
        if let Some(sender) = self.outcome.take()
            && sender.send(outcome).is_ok()
        {
            // The caller may end the process next; a client that does not take
            // its page has only itself to blame.
            let _ = time::timeout(WRITE_LIMIT, &mut self.closed).await;
        }
    }
}

/// Where to listen, as a redirect URI says it.
struct Place<'a> {
    written: &'a str,
    /// Where in it the port is, its colon included.
    port_at: Range<usize>,
    host: String,
    port: Option<u16>,
    path: String,
}

impl<'a> Place<'a> {
    fn parse(redirect_uri: &'a str) -> Result<Self, UserAgentError> {
        let elsewhere = || {
            UserAgentError::Unavailable(format!(
                "the redirect URI {redirect_uri} is not one of this machine's loopback interface \
                 (http://127.0.0.1, http://[::1] or http://localhost), so no listener can await \
                 the redirect; authorize without a listener, and give the URL that the browser ends \
                 up on to `complete`"
            ))
        };
        let uri: Uri = redirect_uri.parse().map_err(|_| elsewhere())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(elsewhere());
        };
        let host = authority.host().to_ascii_lowercase();
        if !addresses::is_loopback(&host)
            || authority.as_str().contains('@')
            || redirect_uri.contains('#')
        {
            return Err(elsewhere());
        }
        let (before, after) = redirect_uri
            .split_once(authority.as_str())
            .ok_or_else(elsewhere)?;
        let port = match &authority.as_str()[host.len()..] {
            "" | ":" => None,
            // Port 0 is any (RFC 6335 section 6), and nobody can be sent there.
            _ => Some(authority.port_u16().ok_or_else(elsewhere)?).filter(|&port| port != 0),
        };
        Ok(Self {
            written: redirect_uri,
            port_at: before.len() + host.len()..redirect_uri.len() - after.len(),
            host,
            port,
            path: uri.path().to_owned(),
        })
    }

    /// The redirect URI of a listener at that port.
    fn redirect_uri(&self, port: u16) -> String {
        let mut redirect_uri = self.written.to_owned();
        if self.port.is_none() {
            redirect_uri.replace_range(self.port_at.clone(), &format!(":{port}"));
        }
        redirect_uri
    }

    fn addresses(&self) -> Vec<IpAddr> {
        const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
        match addresses::literal(&self.host) {
            Some(address) => vec![address],
            // A browser may take either, and whoever has the other one would
            // get the redirect.
            None => vec![V4, V6],
        }
    }

    async fn bind(&self) -> io::Result<(Vec<TcpListener>, u16)> {
        // A free port may be taken at the other address, and a fixed one by a
        // listener that is about to close.
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..BIND_ATTEMPTS {
            match self.bind_once().await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                other => return other,
            }
            time::sleep(BIND_PAUSE).await;
        }
        Err(last)
    }

    async fn bind_once(&self) -> io::Result<(Vec<TcpListener>, u16)> {
        let mut port = self.port.unwrap_or(0);
        let mut sockets = Vec::new();
        for address in self.addresses() {
            match TcpListener::bind((address, port)).await {
                Ok(socket) => {
                    port = socket.local_addr()?.port();
                    sockets.push(socket);
                }
                // A machine without IPv6.
                Err(error) if !sockets.is_empty() && error.kind() != io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Ok((sockets, port))
    }
}

/// What is listened for, and for whom.
struct Site {
    connection: String,
    /// What `Host` has to say.
    host: String,
    /// What it may also say where the port is the scheme's own.
    bare_host: Option<String>,
    path: String,
    /// The redirect URI without its query.
    address: String,
    arrivals: mpsc::Sender<LoopbackArrival>,
}

/// A connection that is open. Dropped while its request is still being read, it
/// is closed.
struct Slot {
    reading: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.reading.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

async fn accept(socket: TcpListener, site: Arc<Site>) {
    let mut slots = VecDeque::<Slot>::new();
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            // Out of file descriptors, perhaps: that passes.
            time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        slots.retain(|slot| !slot.task.is_finished());
        if slots.len() >= CONNECTION_LIMIT {
            let oldest = slots
                .iter()
                .position(|slot| slot.reading.load(Ordering::Acquire));
            match oldest {
                Some(oldest) => drop(slots.remove(oldest)),
                None => continue,
            }
        }
        let reading = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(serve(stream, Arc::clone(&site), Arc::clone(&reading)));
        slots.push_back(Slot {
            reading,
            task: task.abort_handle(),
        });
    }
}

/// Serves the one request of a connection.
async fn serve(stream: TcpStream, site: Arc<Site>, reading: Arc<AtomicBool>) {
    let (_open, closed) = oneshot::channel();
    let closed = Mutex::new(Some(closed));
    let service = service_fn(|request| async {
        let response = match site.redirect_in(request).await {
            Ok(redirect) => {
                reading.store(false, Ordering::Release);
                let closed = closed.lock().unwrap_or_else(PoisonError::into_inner).take();
                site.arrive(redirect, closed).await
            }
            Err(response) => response,
        };
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let too_slow = async {
        time::sleep(READ_LIMIT).await;
        if !reading.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // A client that breaks off is no concern of anybody's.
        _ = connection => {}
        () = too_slow => {}
    }
}

impl Site {
    /// The redirect in a request, or the answer to one that is none.
    async fn redirect_in(
        &self,
        request: Request<Incoming>,
    ) -> Result<Redirect, Response<Full<Bytes>>> {
        if !self.is_named_by(&request) {
            return Err(error_response(StatusCode::MISDIRECTED_REQUEST));
        }
        if request.uri().path() != self.path {
            return Err(error_response(StatusCode::NOT_FOUND));
        }
        match *request.method() {
            Method::GET => Ok(Redirect::Url(match request.uri().query() {
                Some(query) => format!("{}?{query}", self.address),
                None => self.address.clone(),
            })),
            Method::POST => form_in(request).await.map(Redirect::FormPost),
            _ => {
                let mut response = error_response(StatusCode::METHOD_NOT_ALLOWED);
                let allowed = HeaderValue::from_static("GET, POST");
                response.headers_mut().insert(ALLOW, allowed);
                Err(response)
            }
        }
    }

    /// Whether a request names this host and no other, so that a page of
    /// another site cannot reach the listener under that site's name.
    fn is_named_by(&self, request: &Request<Incoming>) -> bool {
        let is_ours = |host: &str| {
            host.eq_ignore_ascii_case(&self.host)
                || self
                    .bare_host
                    .as_ref()
                    .is_some_and(|bare| host.eq_ignore_ascii_case(bare))
        };
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        host.to_str().is_ok_and(is_ours)
            && request
                .uri()
                .authority()
                .is_none_or(|authority| is_ours(authority.as_str()))
    }

    /// Passes a redirect on and waits to hear how it went.
    async fn arrive(
        &self,
        redirect: Redirect,
        closed: Option<oneshot::Receiver<Infallible>>,
    ) -> Response<Full<Bytes>> {
        let Some(closed) = closed else {
            return error_response(StatusCode::BAD_REQUEST);
        };
        let (sender, outcome) = oneshot::channel();
        let arrival = LoopbackArrival {
            redirect,
            outcome: Some(sender),
            closed,
        };
        let outcome = match self.arrivals.send(arrival).await {
            Ok(()) => outcome.await.ok(),
            Err(_) => None,
        };
        outcome_page(&self.connection, outcome.as_ref())
    }
}

/// The form in the body of a request (OAuth 2.0 Form Post Response Mode).
async fn form_in(request: Request<Incoming>) -> Result<String, Response<Full<Bytes>>> {
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| {
            kind.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form {
        return Err(error_response(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let body = Limited::new(request.into_body(), FORM_LIMIT)
        .collect()
        .await;
    let body = body.map_err(|error| {
        error_response(if error.is::<LengthLimitError>() {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::BAD_REQUEST
        })
    })?;
    String::from_utf8(body.to_bytes().into()).map_err(|_| error_response(StatusCode::BAD_REQUEST))
}

#[cfg(test)]
mod tests;
