//! Tokens for plugins that never see them: what a plugin sends to an origin
//! that it was given a connection for gets the connection's token on its way.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, HeaderName,
    HeaderValue, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};
use zeroize::Zeroizing;

use crate::connection::{Connection, Demand, Demands};
use crate::contract::Event;
use crate::error::Error;
use crate::http_client::{Processing, SAYS_HOST};

use super::{Rule, rule_for};

/// The longest body that is kept to be sent a second time, in bytes.
const REPLAY_LIMIT: usize = 1 << 20;

/// Sends a plugin's requests with the tokens that it may use and not see.
///
/// What a plugin says itself of `Authorization`, `DPoP`, `Proxy-Authorization` and
/// `Cookie` is left out. Where a response repeats the token, in its head or its
/// body, as it is or as JSON and URLs write it, asterisks stand in its place; so
/// that it can be found there, the body is asked for without any coding, and one
/// that comes in a coding is refused. A response 401 that says `invalid_token` has
/// the token renewed, at most once a minute, and the request sent once more, where
/// all of its body had been sent and was at most 1 MiB. `GET` and `HEAD` are sent
/// without a body, and refused where they have one.
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
    plugin: &Arc<str>,
    connection: &Connection,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, HttpError> {
    let (mut parts, body) = request.into_parts();
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, TE, DPOP] {
        parts.headers.remove(name);
    }
    parts.headers.insert(ACCEPT_ENCODING, IDENTITY);
    // A server that leaves such a body unread would take it for the beginning of
    // the next request on the connection, which may be somebody else's.
    let body = if matches!(parts.method, Method::GET | Method::HEAD) {
        expect_empty(body).await?;
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(TRANSFER_ENCODING);
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    } else {
        body
    };
    let announced = parts.headers.get(CONTENT_LENGTH);
    let copy = Arc::new(Mutex::new(Copied {
        announced: announced.and_then(|length| length.to_str().ok()?.parse().ok()),
        ..Copied::default()
    }));
    let kept = Kept {
        body,
        copy: Arc::clone(&copy),
    };
    let mut body = kept.boxed_unsync();
    let url = parts.uri.to_string();
    let mut demands = Demands::default();
    let refused = |error: Error| {
        connection.tell(Event::now(
            connection.name(),
            "plugin-refused",
            format!("the plugin {plugin} has no token: {error}"),
        ));
        untokened(&error)
    };
    loop {
        let authorizing = connection.authorization(&parts.method, &url, &demands);
        let authorization = authorizing.await.map_err(refused)?;
        let mut request = Request::from_parts(parts.clone(), body);
        authorization.put_on(request.headers_mut());
        let client = connection.http(Some(plugin)).await.map_err(refused)?;
        let response = client.send(request, options).await?;
        let demand = demands.made_by(&response, &authorization);
        let may_be_met = match demand {
            Some(Demand::Nonce) => true,
            Some(Demand::Token) => connection.may_be_renewed_for_plugins(),
            None => false,
        };
        body = match again(&copy) {
            Some(body) if may_be_met => body,
            _ => return without(response, &authorization.token),
        };
    }
}

const DPOP: HeaderName = HeaderName::from_static("dpop");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Waits for the end of a body that has nothing in it.
async fn expect_empty(mut body: WasiBody) -> Result<(), HttpError> {
    while let Some(frame) = body.frame().await {
        if frame?.data_ref().is_some_and(|data| !data.is_empty()) {
            return Err(HttpError::HttpRequestBodySize(Some(0)));
        }
    }
    Ok(())
}

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
    data: BytesMut,
    /// How long the request says that the body is.
    announced: Option<usize>,
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
        if self.data.len() + data.len() > REPLAY_LIMIT {
            self.give_up();
        } else if !self.incomplete {
            self.data.extend_from_slice(data);
        }
        // What has a length is not asked for more than that.
        self.whole |= self.announced == Some(self.data.len());
    }

    fn give_up(&mut self) {
        self.incomplete = true;
        self.data = BytesMut::new();
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
    let body = Full::new(Bytes::copy_from_slice(&copy.data));
    Some(body.map_err(|never| match never {}).boxed_unsync())
}

// What is kept is sound whoever panicked.
fn lock(copy: &Mutex<Copied>) -> MutexGuard<'_, Copied> {
    copy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A response in which asterisks stand for the token. One in whose body the token
/// could not be found is refused.
fn without(response: Response<WasiBody>, token: &str) -> Result<Response<WasiBody>, HttpError> {
    let (mut parts, body) = response.into_parts();
    let coding = |name: HeaderName, plain: &str| {
        let values = parts.headers.get_all(name).into_iter();
        values
            .map(|value| value.to_str().unwrap_or("?").to_owned())
            .find(|coding| !coding.trim().eq_ignore_ascii_case(plain))
    };
    if let Some(coding) = coding(CONTENT_ENCODING, "identity") {
        return Err(HttpError::HttpResponseContentCoding(Some(coding)));
    }
    if let Some(coding) = coding(TRANSFER_ENCODING, "chunked") {
        return Err(HttpError::HttpResponseTransferCoding(Some(coding)));
    }
    let secret = Spellings::of(token);
    secret.mask_headers(&mut parts.headers);
    let body = Masked {
        body,
        secret,
        held: BytesMut::new(),
        trailers: None,
        ended: false,
    };
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// A secret, in each way that it may be written.
struct Spellings(Vec<Zeroizing<String>>);

impl Spellings {
    /// As it is; as JSON can write it (RFC 8259 section 7), in the two ways that are
    /// in use; and as URLs do (RFC 3986 section 2.1).
    fn of(secret: &str) -> Self {
        if secret.is_empty() {
            return Self(Vec::new());
        }
        let plain = Zeroizing::new(secret.to_owned());
        if secret.chars().all(is_unreserved) {
            return Self(vec![plain]);
        }
        let spelt = |is_escaped: &dyn Fn(char) -> bool, escape: fn(char) -> String| {
            let mut spelt = Zeroizing::new(String::with_capacity(6 * secret.len()));
            for c in secret.chars() {
                match is_escaped(c) {
                    true => spelt.push_str(&escape(c)),
                    false => spelt.push(c),
                }
            }
            spelt
        };
        let in_json = |c: char| format!("\\u{:04x}", c as u32);
        let mut spellings = vec![
            plain,
            spelt(&|c| c == '/', |c| format!("\\{c}")),
            spelt(&|c| "=&<>'+".contains(c), in_json),
            spelt(&|c| "=&<>'".contains(c), in_json),
            spelt(&|c| !is_unreserved(c), |c| format!("%{:02X}", c as u32)),
            spelt(&|c| !is_unreserved(c), |c| format!("%{:02x}", c as u32)),
        ];
        spellings.dedup();
        Self(spellings)
    }

    fn mask_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if self.mask(&mut bytes)
                && let Ok(masked) = HeaderValue::from_bytes(&bytes)
            {
                *value = masked;
            }
        }
    }

    /// Puts asterisks in place of the secret, and tells whether it was there.
    fn mask(&self, bytes: &mut [u8]) -> bool {
        let mut found = false;
        for spelling in &self.0 {
            let spelling = spelling.as_bytes();
            let mut from = 0;
            while let Some(at) = position(&bytes[from..], spelling) {
                let end = from + at + spelling.len();
                bytes[from + at..end].fill(b'*');
                from = end;
                found = true;
            }
        }
        found
    }

    /// How many bytes at the end may be the beginning of the secret.
    fn torn(&self, bytes: &[u8]) -> usize {
        let torn = |spelling: &[u8]| {
            let longest = bytes.len().min(spelling.len().saturating_sub(1));
            (1..=longest)
                .rev()
                .find(|&length| bytes.ends_with(&spelling[..length]))
        };
        let torn = self
            .0
            .iter()
            .filter_map(|spelling| torn(spelling.as_bytes()));
        torn.max().unwrap_or(0)
    }
}

/// RFC 3986 section 2.3.
fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~".contains(c)
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// A body in which asterisks stand for the token, wherever its parts are torn.
struct Masked {
    body: WasiBody,
    secret: Spellings,
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
                        this.secret.mask(&mut this.held);
                        let sure = this.held.len() - this.secret.torn(&this.held);
                        if sure > 0 {
                            let sure = this.held.split_to(sure).freeze();
                            return Poll::Ready(Some(Ok(Frame::data(sure))));
                        }
                    }
                    Err(frame) => {
                        if let Ok(mut trailers) = frame.into_trailers() {
                            this.secret.mask_headers(&mut trailers);
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

#[cfg(test)]
mod tests;
