//! A server that answers as the test dictates, faults included.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query, as it was sent.
    pub query: String,
    /// The headers in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    /// The one value of a header; absent where there is none or several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// The body as a form.
    pub fn form(&self) -> Vec<(String, String)> {
        crate::form(&String::from_utf8_lossy(&self.body))
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub struct Answer {
    delay: Duration,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    Respond {
        status: u16,
        headers: Vec<(String, String)>,
        content: Content,
    },
    Hang,
    Close,
}

#[derive(Clone, Debug)]
enum Content {
    Whole(Bytes),
    /// Half of it; then the connection breaks.
    HalfThenReset(Bytes),
    /// Half of it; then nothing more, on an open connection.
    HalfThenStall(Bytes),
    /// Chunk after chunk, for ever.
    Endless(Bytes),
}

impl Answer {
    fn respond(status: u16, content_type: &str, content: Content) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self {
            delay: Duration::ZERO,
            act: Act::Respond {
                status,
                headers,
                content,
            },
        }
    }

    /// A response with a body of the given media type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::respond(status, content_type, Content::Whole(body.into()))
    }

    /// A JSON response.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// The token endpoint's error response (RFC 6749 section 5.2).
    pub fn refusal(status: u16, error: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": error }))
    }

    /// A page where something else was expected.
    pub fn html(status: u16) -> Self {
        let page = "<!doctype html><title>Maintenance</title><h1>We will be back soon</h1>";
        Self::new(status, "text/html; charset=utf-8", page)
    }

    /// A redirect that keeps method and body.
    pub fn redirect(location: &str) -> Self {
        Self::new(307, "text/plain", "").with_header("location", location)
    }

    /// Half of a JSON response, though the length of the whole is announced;
    /// then the connection breaks.
    pub fn half_then_reset(body: &Value) -> Self {
        let content = Content::HalfThenReset(body.to_string().into());
        Self::respond(200, "application/json", content)
    }

    /// Half of a JSON response; then nothing more, on an open connection.
    pub fn half_then_stall(body: &Value) -> Self {
        let content = Content::HalfThenStall(body.to_string().into());
        Self::respond(200, "application/json", content)
    }

    /// A JSON text that never ends.
    pub fn endless() -> Self {
        let content = Content::Endless(vec![b' '; 16 * 1024].into());
        Self::respond(200, "application/json", content)
    }

    /// No response, on an open connection.
    pub fn hang() -> Self {
        Self {
            delay: Duration::ZERO,
            act: Act::Hang,
        }
    }

    /// No response: the connection is closed.
    pub fn close() -> Self {
        Self {
            delay: Duration::ZERO,
            act: Act::Close,
        }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Act::Respond { headers, .. } = &mut self.act {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same, later.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Script = Arc<dyn Fn(&ReceivedRequest) -> Answer + Send + Sync>;

#[derive(Default)]
struct Stage {
    scripts: BTreeMap<String, Script>,
    otherwise: Option<Script>,
    received: Vec<ReceivedRequest>,
}

/// A server on a free port of 127.0.0.1; it ends when dropped. What is in no
/// script it answers with 404.
pub struct ScriptedServer {
    address: SocketAddr,
    stage: Arc<Mutex<Stage>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedServer {
    /// Starts a server with an empty script.
    ///
    /// # Panics
    /// Where there is no port to be had.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        let stage = Arc::new(Mutex::new(Stage::default()));
        let (end, ended) = oneshot::channel();
        let seen = Arc::clone(&stage);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            // What still hangs when the test ends is dropped with the runtime.
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, seen) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            stage,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// A URL of the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers every request to a path alike from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.script(path, move |_| answer.clone());
    }

    /// Answers requests to a path by a function from now on.
    pub fn script(
        &self,
        path: &str,
        script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    ) {
        lock(&self.stage)
            .scripts
            .insert(path.to_owned(), Arc::new(script));
    }

    /// Answers by a function from now on whatever no other script is for.
    pub fn otherwise(&self, script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) {
        lock(&self.stage).otherwise = Some(Arc::new(script));
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far, answered or not.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        lock(&self.stage).received.clone()
    }

    /// Those among them to a path.
    pub fn requests_to(&self, path: &str) -> Vec<ReceivedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    /// The only request to a path so far.
    ///
    /// # Panics
    /// Where there was none, or more than one.
    #[track_caller]
    pub fn only_request_to(&self, path: &str) -> ReceivedRequest {
        let mut requests = self.requests_to(path);
        assert_eq!(requests.len(), 1, "the number of requests to {path}");
        requests.remove(0)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // The thread may have ended already.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// A script that panics has failed its test; the log is still sound.
fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: std::net::TcpListener, stage: Arc<Mutex<Stage>>) {
    listener
        .set_nonblocking(true)
        .expect("a listener that does not block");
    let listener = TcpListener::from_std(listener).expect("a listener of the runtime's");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, Arc::clone(&stage)));
            // A connection that fails is what many scripts are about.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Tells hyper to close the connection.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed by the script")
    }
}

impl std::error::Error for Closed {}

async fn respond(
    request: Request<Incoming>,
    stage: Arc<Mutex<Stage>>,
) -> Result<Response<ScriptedBody>, Closed> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| Closed)?
        .to_bytes()
        .to_vec();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let received = ReceivedRequest {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
        body,
    };
    let script = {
        let mut stage = lock(&stage);
        stage.received.push(received.clone());
        let script = stage.scripts.get(&received.path);
        script.or(stage.otherwise.as_ref()).cloned()
    };
    let Answer { delay, act } = match script {
        Some(script) => script(&received),
        None => Answer::new(404, "text/plain", "this path is not in the script"),
    };
    tokio::time::sleep(delay).await;
    match act {
        Act::Hang => std::future::pending().await,
        Act::Close => Err(Closed),
        Act::Respond {
            status,
            headers,
            content,
        } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response
                .body(ScriptedBody::new(content))
                .expect("a response as scripted"))
        }
    }
}

/// A body that comes as scripted.
struct ScriptedBody {
    next: Option<Bytes>,
    length: Option<usize>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    End,
    Reset,
    Stall,
    Repeat,
    /// The next poll breaks the connection.
    Break,
}

impl ScriptedBody {
    fn new(content: Content) -> Self {
        let half = |whole: &Bytes| Some(whole.slice(..whole.len() / 2));
        match content {
            Content::Whole(whole) => Self {
                length: Some(whole.len()),
                next: Some(whole),
                then: Then::End,
            },
            Content::HalfThenReset(whole) => Self {
                next: half(&whole),
                length: Some(whole.len()),
                then: Then::Reset,
            },
            Content::HalfThenStall(whole) => Self {
                next: half(&whole),
                length: Some(whole.len()),
                then: Then::Stall,
            },
            Content::Endless(chunk) => Self {
                next: Some(chunk),
                length: None,
                then: Then::Repeat,
            },
        }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        if let Then::Repeat = self.then {
            return Poll::Ready(self.next.clone().map(|chunk| Ok(Frame::data(chunk))));
        }
        match (self.next.take(), self.then) {
            (Some(data), _) => Poll::Ready(Some(Ok(Frame::data(data)))),
            (None, Then::Reset) => {
                // hyper sends what it has when there is nothing more for the
                // moment; an error at once would take the first half with it.
                self.then = Then::Break;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (None, Then::Break) => Poll::Ready(Some(Err(Closed))),
            // Nothing will wake it: the peer must lose patience.
            (None, Then::Stall) => Poll::Pending,
            (None, Then::End | Then::Repeat) => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length as u64),
            None => SizeHint::default(),
        }
    }
}
