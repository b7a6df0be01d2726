//! Tokens for plugins that never see them: what a plugin sends to an origin
//! that it was given a connection for gets the connection's token on its way.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};
use zeroize::Zeroizing;

use crate::connection::{Connection, Demands};
use crate::contract::Event;
use crate::error::Error;
use crate::http_client::{Processing, SAYS_HOST};

use super::{Rule, rule_for};

/// The longest body that is kept to be sent a second time, in bytes.
const REPLAY_LIMIT: u64 = 1 << 20;

/// Sends a plugin's requests with the tokens that it may use and not see.
///
/// What a plugin says itself of `Authorization`, `DPoP`, `Proxy-Authorization` and
/// `Cookie` is left out. Where a response repeats the token, in its head or its
/// body, asterisks stand in its place; so that it can be found there, the body
/// is asked for uncompressed. A response 401 that says `invalid_token` has the
/// token renewed and the request sent once more, where all of its body had been
/// sent and was at most 1 MiB.
pub struct PluginHttp {
    pub(super) plugin: Arc<str>,
    pub(super) rules: Arc<[Rule]>,
}

impl fmt::Debug for PluginHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginHttp")
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

impl WasiHttpHooks for PluginHttp {
    fn set_host_header(&mut self) -> bool {
        SAYS_HOST
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Processing,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Processing), HttpError>> + Send> {
        let plugin = Arc::clone(&self.plugin);
        let rules = Arc::clone(&self.rules);
        Box::new(async move {
            let rule = rule_for(&rules, request.uri()).ok_or(HttpError::HttpRequestDenied)?;
            let response = send(
                &plugin,
                &rule.connection,
                request,
                options.unwrap_or_default(),
            );
            let processed: Processing = Box::new(async { Ok(()) });
            Ok((response.await?, processed))
        })
    }
}

/// Sends a request with the connection's token.
async fn send(
    plugin: &str,
    connection: &Connection,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, HttpError> {
    let (mut parts, body) = request.into_parts();
    for name in [
        AUTHORIZATION,
        PROXY_AUTHORIZATION,
        COOKIE,
        ACCEPT_ENCODING,
        DPOP,
    ] {
        parts.headers.remove(name);
    }
    let copy = Arc::default();
    let kept = Kept {
        body,
        copy: Arc::clone(&copy),
    };
    let mut body = kept.boxed_unsync();
    let url = parts.uri.to_string();
    let mut demands = Demands::default();
    loop {
        let authorizing = connection.authorization(&parts.method, &url, &demands);
        let authorization = authorizing.await.map_err(|error| {
            connection.tell(Event::now(
                connection.name(),
                "plugin-refused",
                format!("the plugin {plugin} has no token: {error}"),
            ));
            untokened(&error)
        })?;
        let mut request = Request::from_parts(parts.clone(), body);
        authorization.put_on(request.headers_mut());
        let client = connection.http().await.map_err(|error| untokened(&error))?;
        let response = client.send(request, options).await?;
        body = match again(&copy) {
            Some(body) if demands.made_by(&response, &authorization) => body,
            _ => return Ok(without(response, authorization.token.as_bytes())),
        };
    }
}

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What a plugin is told where there is no token for it: no more than that.
fn untokened(error: &Error) -> HttpError {
    match error {
        Error::Unavailable(_) => HttpError::DestinationUnavailable,
        _ => HttpError::HttpRequestDenied,
    }
}

/// A request body that is kept while it is sent, in case it has to be sent again.
struct Kept {
    body: WasiBody,
    copy: Arc<Mutex<Copied>>,
}

/// What was kept of a body.
#[derive(Default)]
struct Copied {
    parts: Vec<Bytes>,
    length: u64,
    /// Nothing follows the parts.
    whole: bool,
    /// The body has more than is kept.
    incomplete: bool,
}

impl Copied {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(data) = frame.data_ref() else {
            self.give_up();
            return;
        };
        self.length += data.len() as u64;
        if self.length > REPLAY_LIMIT {
            self.give_up();
        } else if !self.incomplete {
            self.parts.push(data.clone());
        }
    }

    fn give_up(&mut self) {
        self.incomplete = true;
        self.parts.clear();
    }
}

impl Body for Kept {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let mut copy = lock(&self.copy);
        match &next {
            Some(Ok(frame)) => copy.keep(frame),
            Some(Err(_)) => copy.give_up(),
            None => copy.whole = true,
        }
        // What has a length is not asked for more than that.
        copy.whole |= self.body.is_end_stream();
        drop(copy);
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.body.is_end_stream();
        lock(&self.copy).whole |= ended;
        ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The same body once more, where all of it was sent and kept.
fn again(copy: &Mutex<Copied>) -> Option<WasiBody> {
    let copy = lock(copy);
    if copy.incomplete || !copy.whole {
        return None;
    }
    let body = Full::new(Bytes::from(copy.parts.concat()));
    Some(body.map_err(|never| match never {}).boxed_unsync())
}

// What is kept is sound whoever panicked.
fn lock(copy: &Mutex<Copied>) -> MutexGuard<'_, Copied> {
    copy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A response in which asterisks stand for the token.
fn without(response: Response<WasiBody>, token: &[u8]) -> Response<WasiBody> {
    let (mut parts, body) = response.into_parts();
    mask_headers(&mut parts.headers, token);
    let body = Masked {
        body,
        token: Zeroizing::new(token.to_vec()),
        held: BytesMut::new(),
        trailers: None,
        ended: false,
    };
    Response::from_parts(parts, body.boxed_unsync())
}

fn mask_headers(headers: &mut HeaderMap, token: &[u8]) {
    for value in headers.values_mut() {
        let mut bytes = value.as_bytes().to_vec();
        if mask(&mut bytes, token)
            && let Ok(masked) = HeaderValue::from_bytes(&bytes)
        {
            *value = masked;
        }
    }
}

/// Puts asterisks in place of a secret, and tells whether it was there.
fn mask(bytes: &mut [u8], secret: &[u8]) -> bool {
    let mut from = 0;
    let mut found = false;
    while !secret.is_empty() && bytes.len() - from >= secret.len() {
        let rest = &bytes[from..];
        let Some(at) = rest
            .windows(secret.len())
            .position(|window| window == secret)
        else {
            break;
        };
        bytes[from + at..from + at + secret.len()].fill(b'*');
        from += at + secret.len();
        found = true;
    }
    found
}

/// A body in which asterisks stand for the token, wherever its parts are torn.
struct Masked {
    body: WasiBody,
    token: Zeroizing<Vec<u8>>,
    /// What may be the beginning of the token.
    held: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Body for Masked {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        while !this.ended {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.held.extend_from_slice(&data);
                        mask(&mut this.held, &this.token);
                        let sure = this.held.len() - torn(&this.held, &this.token);
                        if sure > 0 {
                            let sure = this.held.split_to(sure).freeze();
                            return Poll::Ready(Some(Ok(Frame::data(sure))));
                        }
                    }
                    Err(frame) => {
                        if let Ok(mut trailers) = frame.into_trailers() {
                            mask_headers(&mut trailers, &this.token);
                            this.trailers = Some(trailers);
                        }
                        this.ended = true;
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.ended = true,
            }
        }
        if !this.held.is_empty() {
            let rest = this.held.split().freeze();
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        Poll::Ready(
            this.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        )
    }
}

/// How many bytes at the end may be the beginning of a secret.
fn torn(bytes: &[u8], secret: &[u8]) -> usize {
    let longest = bytes.len().min(secret.len().saturating_sub(1));
    (1..=longest)
        .rev()
        .find(|&length| bytes.ends_with(&secret[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
