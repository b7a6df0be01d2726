//! Tokens for plugins that never see them: what a plugin sends to an origin
//! that it was given a connection for gets the connection's token on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
};
use http::{HeaderMap, Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};
use zeroize::Zeroizing;

use crate::connection::{Connection, Demands};
use crate::contract::Event;
use crate::error::Error;
use crate::http_client::{Origin, Processing, SAYS_HOST};

/// The longest body that is kept to be sent a second time, in bytes.
const REPLAY_LIMIT: u64 = 1 << 20;

/// Which plugin may use which connection for which origin. Cheap to clone.
///
/// ```no_run
/// # async fn run(host: tokenwell::Host, config: tokenwell::Config) -> Result<(), tokenwell::GrantError> {
/// use tokenwell::Grants;
///
/// let crm = host.connection("crm", config);
/// let grants = Grants::of(["invoices", "reports"], [crm])
///     .allow("invoices", "crm", "https://api.crm.example")?;
/// let hooks = grants.hooks("invoices")?; // for the plugin's `WasiHttpCtxView`
/// # let _ = hooks;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Grants {
    plugins: BTreeSet<String>,
    connections: BTreeMap<String, Connection>,
    rules: BTreeMap<String, Vec<Rule>>,
}

#[derive(Clone)]
struct Rule {
    origin: Origin,
    connection: Connection,
}

/// A grant that names what there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// There is no plugin of that name.
    #[error("there is no plugin {found}; there are: {known}")]
    UnknownPlugin {
        /// The name.
        found: String,
        /// Those that there are.
        known: String,
    },
    /// There is no connection of that name.
    #[error("there is no connection {found}; there are: {known}")]
    UnknownConnection {
        /// The name.
        found: String,
        /// Those that there are.
        known: String,
    },
    /// That is no origin.
    #[error(
        "{found} is no origin: {problem}; expected scheme, host and port alone, such as https://api.example.com"
    )]
    NoOrigin {
        /// What was given.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Grants {
    /// Begins with the plugins and the connections that grants may name; nothing
    /// is granted yet.
    pub fn of<P: Into<String>>(
        plugins: impl IntoIterator<Item = P>,
        connections: impl IntoIterator<Item = Connection>,
    ) -> Self {
        let named = |connection: Connection| (connection.name().to_owned(), connection);
        Self {
            plugins: plugins.into_iter().map(Into::into).collect(),
            connections: connections.into_iter().map(named).collect(),
            rules: BTreeMap::new(),
        }
    }

    /// Lets a plugin use a connection for an origin: `https://HOST` or
    /// `https://HOST:PORT` exactly, `http` on the loopback interface alone. Where
    /// the plugin has a connection for that origin, this one takes its place.
    ///
    /// # Errors
    /// Names what there is not, or no origin.
    pub fn allow(
        mut self,
        plugin: &str,
        connection: &str,
        origin: &str,
    ) -> Result<Self, GrantError> {
        self.expect_plugin(plugin)?;
        let Some(connection) = self.connections.get(connection).cloned() else {
            let known: Vec<_> = self.connections.keys().cloned().collect();
            return Err(GrantError::UnknownConnection {
                found: connection.to_owned(),
                known: known.join(", "),
            });
        };
        let no_origin = |problem| GrantError::NoOrigin {
            found: origin.to_owned(),
            problem,
        };
        let origin = Origin::parse(origin).map_err(no_origin)?;
        let rules = self.rules.entry(plugin.to_owned()).or_default();
        rules.retain(|rule| rule.origin != origin);
        rules.push(Rule { origin, connection });
        Ok(self)
    }

    fn expect_plugin(&self, plugin: &str) -> Result<(), GrantError> {
        if self.plugins.contains(plugin) {
            return Ok(());
        }
        let known: Vec<_> = self.plugins.iter().cloned().collect();
        Err(GrantError::UnknownPlugin {
            found: plugin.to_owned(),
            known: known.join(", "),
        })
    }

    /// What sends a plugin's requests: for the `hooks` of its
    /// [`WasiHttpCtxView`](wasmtime_wasi_http::WasiHttpCtxView). A request to an
    /// origin that the plugin has a connection for gets its token; every other is
    /// refused. Redirects are not followed.
    ///
    /// # Errors
    /// There is no such plugin.
    pub fn hooks(&self, plugin: &str) -> Result<PluginHttp, GrantError> {
        self.expect_plugin(plugin)?;
        let rules = self.rules.get(plugin).cloned().unwrap_or_default();
        Ok(PluginHttp {
            plugin: plugin.into(),
            rules: rules.into(),
        })
    }
}

/// Sends a plugin's requests with the tokens that it may use and not see.
///
/// What a plugin says itself of `Authorization`, `DPoP`, `Proxy-Authorization` and
/// `Cookie` is left out. Where a response repeats the token, in its head or its
/// body, asterisks stand in its place; so that it can be found there, the body
/// is asked for uncompressed. A response 401 that says `invalid_token` has the
/// token renewed and the request sent once more, where its body has a known
/// length of at most 1 MiB.
pub struct PluginHttp {
    plugin: Arc<str>,
    rules: Arc<[Rule]>,
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

/// The rule for a request. User information has no place in a URL (RFC 9110
/// section 4.2.4), and a host before it would deceive whoever reads it.
fn rule_for<'a>(rules: &'a [Rule], uri: &Uri) -> Option<&'a Rule> {
    if uri.authority()?.as_str().contains('@') {
        return None;
    }
    let origin = Origin::of(uri)?;
    rules.iter().find(|rule| rule.origin == origin)
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
    let mut body = Replayable::of(body).await?;
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
        let mut request = Request::from_parts(parts.clone(), body.take()?);
        authorization.put_on(request.headers_mut());
        let client = connection.http().await.map_err(|error| untokened(&error))?;
        let response = client.send(request, options).await?;
        if !body.can_be_sent_again() || !demands.made_by(&response, &authorization) {
            return Ok(without(response, authorization.token.as_bytes()));
        }
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

/// A request body, kept where it may have to be sent again.
enum Replayable {
    Kept(Bytes),
    Once(Option<WasiBody>),
}

impl Replayable {
    async fn of(body: WasiBody) -> Result<Self, HttpError> {
        let is_short = body
            .size_hint()
            .exact()
            .is_some_and(|length| length <= REPLAY_LIMIT);
        if !is_short {
            return Ok(Self::Once(Some(body)));
        }
        Ok(Self::Kept(body.collect().await?.to_bytes()))
    }

    fn can_be_sent_again(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    fn take(&mut self) -> Result<WasiBody, HttpError> {
        match self {
            Self::Kept(bytes) => {
                let body = Full::new(bytes.clone()).map_err(|never| match never {});
                Ok(body.boxed_unsync())
            }
            Self::Once(body) => body.take().ok_or(HttpError::HttpRequestBodySize(None)),
        }
    }
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
