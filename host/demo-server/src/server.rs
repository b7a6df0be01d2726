//! The HTTP server: connections, routes, the log.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::answer::{Answer, json, only, text, with_header};
use crate::authorize::{Forms, authorize, decide};
use crate::grants::Grants;
use crate::parameters::Parameters;
use crate::received::{Endpoint, GrantType, Received, TokenHash};
use crate::scope::ScopeToken;
use crate::token::{TokenError, revoke, token};

const MOST_CONNECTIONS: usize = 256;
const MOST_RECEIVED: usize = 10_000;
const LARGEST_BODY: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(10);

/// Everything the endpoints know.
pub(crate) struct Server {
    pub(crate) issuer: String,
    /// Host and port, as the `Host` header must say.
    pub(crate) authority: String,
    pub(crate) client_id: String,
    pub(crate) client_name: String,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) confidential_client_id: String,
    pub(crate) confidential_client_secret: String,
    pub(crate) user_name: String,
    pub(crate) token_endpoint_delay: Duration,
    pub(crate) forms: Mutex<Forms>,
    pub(crate) grants: Mutex<Grants>,
    pub(crate) received: Mutex<VecDeque<Received>>,
}

/// What a panic elsewhere may have left behind is still consistent: nothing
/// here is changed in two steps that must both happen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub(crate) fn forms(&self) -> MutexGuard<'_, Forms> {
        lock(&self.forms)
    }

    pub(crate) fn grants(&self) -> MutexGuard<'_, Grants> {
        lock(&self.grants)
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, VecDeque<Received>> {
        lock(&self.received)
    }

    fn metadata(&self) -> serde_json::Value {
        let issuer = &self.issuer;
        let methods = ["none", "client_secret_basic", "client_secret_post"];
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "scopes_supported": ScopeToken::ALL.map(ScopeToken::name),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": GrantType::ALL.map(GrantType::name),
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// The protected resource (RFC 6750).
    fn notes(&self, headers: &HeaderMap, received: &mut Received) -> Answer {
        let access_token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let Some(access_token) = access_token else {
            // RFC 6750 section 3.1: no error code for who sent no token.
            let answer = text(StatusCode::UNAUTHORIZED, "An access token is needed.\n");
            return with_header(answer, WWW_AUTHENTICATE, "Bearer realm=\"notes\"");
        };
        received.access_token_presented = Some(TokenHash::of(access_token));
        let allowed = self
            .grants()
            .scope_of(access_token, Instant::now())
            .map(|scope| scope.contains(ScopeToken::NotesRead));
        match allowed {
            Some(true) => json(
                StatusCode::OK,
                &json!({ "notes": [
                    { "id": 1, "text": "Water the tomatoes" },
                    { "id": 2, "text": "Draw a fresh token, never an old one" },
                ] }),
            ),
            Some(false) => {
                received.error = Some("insufficient_scope");
                with_header(
                    text(StatusCode::FORBIDDEN, "The access token is not for this.\n"),
                    WWW_AUTHENTICATE,
                    "Bearer realm=\"notes\", error=\"insufficient_scope\", scope=\"notes:read\"",
                )
            }
            None => {
                received.error = Some("invalid_token");
                with_header(
                    text(StatusCode::UNAUTHORIZED, "The access token is not valid.\n"),
                    WWW_AUTHENTICATE,
                    "Bearer realm=\"notes\", error=\"invalid_token\", \
                     error_description=\"the access token is unknown, expired or revoked\"",
                )
            }
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let endpoint = match request.uri().path() {
            "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration" => {
                Endpoint::Metadata
            }
            "/authorize" => Endpoint::Authorization,
            "/sign-in" => Endpoint::Decision,
            "/token" => Endpoint::Token,
            "/revoke" => Endpoint::Revocation,
            "/api/notes" => Endpoint::Resource,
            _ => Endpoint::Other,
        };
        let mut received = Received::at(endpoint);
        let answer = self.route(request, &mut received).await;
        received.status = answer.status().as_u16();
        let mut log = self.received();
        if log.len() == MOST_RECEIVED {
            log.pop_front();
        }
        log.push_back(received);
        answer
    }

    async fn route(&self, request: Request<Incoming>, received: &mut Received) -> Answer {
        // A page from elsewhere must not reach this server under a name of its
        // own that resolves to the loopback address.
        let host = request.headers().get(HOST).map(|host| host.as_bytes());
        if host != Some(self.authority.as_bytes()) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "This server goes by another name.\n",
            );
        }
        let method = match received.endpoint {
            Endpoint::Decision | Endpoint::Token | Endpoint::Revocation => Method::POST,
            Endpoint::Other => return text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
            _ => Method::GET,
        };
        if request.method() != method {
            return only(if method == Method::POST {
                "POST"
            } else {
                "GET"
            });
        }

        let (head, body) = request.into_parts();
        let headers = &head.headers;
        match received.endpoint {
            Endpoint::Metadata => json(StatusCode::OK, &self.metadata()),
            Endpoint::Authorization => {
                let query = head.uri.query().unwrap_or_default();
                let query = Parameters::parse(query.as_bytes());
                authorize(self, &query, headers, received)
            }
            Endpoint::Resource => self.notes(headers, received),
            Endpoint::Decision | Endpoint::Token | Endpoint::Revocation => {
                let form = match read_form(headers, body).await {
                    Ok(form) => form,
                    Err(why) => return TokenError::InvalidRequest(why).answer(received),
                };
                match received.endpoint {
                    Endpoint::Decision => decide(self, &form, headers, received),
                    Endpoint::Revocation => revoke(self, headers, &form, received),
                    _ => {
                        tokio::time::sleep(self.token_endpoint_delay).await;
                        token(self, headers, &form, received)
                    }
                }
            }
            Endpoint::Other => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
        }
    }
}

async fn read_form(headers: &HeaderMap, body: Incoming) -> Result<Parameters, &'static str> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    if !media_type.is_some_and(|m| {
        m.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }) {
        return Err("the body must be application/x-www-form-urlencoded");
    }
    let body = Limited::new(body, LARGEST_BODY).collect();
    match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => Ok(Parameters::parse(&body.to_bytes())),
        Ok(Err(_)) => Err("the body is too large or incomplete"),
        Err(_) => Err("the body took too long"),
    }
}

/// Serves until `stop` says so or its sender is gone, then answers what has
/// been asked already and returns.
pub(crate) async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                let (server, stop) = (Arc::clone(&server), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, server, stop).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, most likely: let some be given back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn serve_connection(stream: TcpStream, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection that fails is its peer's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
