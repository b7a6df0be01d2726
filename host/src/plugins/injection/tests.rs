//! What a plugin sends and gets, against a server that repeats what it is told.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::contract::{Config, Grant, Secret, TokenOptions};
use crate::host::Host;
use crate::network::NetworkPolicy;
use crate::plugins::lending::within_bounds;
use crate::plugins::{GrantError, Grants};

/// An authorization server that numbers its tokens, and an API beside it.
struct Server {
    origin: String,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<http::request::Parts>>> = Arc::default();
        let seen = Arc::clone(&heads);
        let issued = Arc::new(Mutex::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, issued) = (Arc::clone(&seen), Arc::clone(&issued));
                let service = service_fn(move |request| {
                    let (seen, issued) = (Arc::clone(&seen), Arc::clone(&issued));
                    async move { Ok::<_, hyper::Error>(answer(request, &seen, &issued).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { origin, heads }
    }

    fn config(&self) -> Config {
        Config {
            grant: Grant::ClientCredentials,
            client_id: Some("platform".to_owned()),
            client_secret: Some(Secret::Literal("hunter2".to_owned())),
            token_endpoint: Some(format!("{}/token", self.origin)),
            ..Config::default()
        }
    }

    fn connection(&self) -> Connection {
        let host = Host::builder().build().unwrap();
        host.connection("crm", self.config())
    }

    fn grants(&self) -> Grants {
        Grants::of(["honest", "idle"], [self.connection()])
            .allow("honest", "crm", &self.origin)
            .unwrap()
    }

    /// What the API was sent, without the requests for tokens.
    fn api_heads(&self) -> Vec<http::request::Parts> {
        self.heads_of(|path| path != "/token")
    }

    /// How many tokens it was asked for.
    fn issued(&self) -> usize {
        self.heads_of(|path| path == "/token").len()
    }

    fn heads_of(&self, wanted: fn(&str) -> bool) -> Vec<http::request::Parts> {
        let heads = self.heads.lock().unwrap();
        let wanted = heads.iter().filter(|head| wanted(head.uri.path()));
        wanted.cloned().collect()
    }
}

/// `/latest` takes the second token alone and `/never` none; everything else repeats
/// the request, `/coded` in a coding of its own.
async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<http::request::Parts>>,
    issued: &Mutex<u32>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    seen.lock().unwrap().push(head.clone());
    let body = body.collect().await.unwrap().to_bytes();
    if head.uri.path() == "/token" {
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        let token = format!(
            r#"{{"access_token": "secret-{issued}", "token_type": "Bearer", "expires_in": 3600}}"#
        );
        return Response::new(Full::new(token.into()));
    }
    let authorization = head.headers.get(AUTHORIZATION).cloned();
    let text = authorization
        .as_ref()
        .map_or("", |value| value.to_str().unwrap());
    let path = head.uri.path();
    if path == "/never" || path == "/latest" && text != "Bearer secret-2" {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("www-authenticate", r#"Bearer error="invalid_token""#)
            .body(Full::default())
            .unwrap();
    }
    let mut response = Response::builder();
    if head.uri.path() == "/redirect" {
        response = response
            .status(StatusCode::FOUND)
            .header("location", "https://thief.example/");
    }
    if path == "/coded" {
        response = response.header("content-encoding", "rot13");
    }
    let repeated = format!("you said {text} and {}", String::from_utf8_lossy(&body));
    response
        .header("x-echo", text)
        .body(Full::new(repeated.into()))
        .unwrap()
}

fn request(method: &str, url: &str, body: &'static str) -> Request<WasiBody> {
    let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {});
    let request = Request::builder().method(method).uri(url);
    request.body(body.boxed_unsync()).unwrap()
}

async fn sent_by(
    grants: &Grants,
    plugin: &str,
    request: Request<WasiBody>,
) -> Result<Response<String>, HttpError> {
    let mut hooks = grants.hooks(plugin).unwrap();
    let processed: Processing = Box::new(async { Ok(()) });
    let sending = Box::into_pin(hooks.send_request(request, None, processed));
    let (response, _) = sending.await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(
        parts,
        String::from_utf8(body.to_vec()).unwrap(),
    ))
}

#[tokio::test]
async fn a_plugin_calls_the_api_with_a_token_that_it_never_sees() {
    let server = Server::start().await;
    let url = format!("{}/items?page=2", server.origin);
    let response = sent_by(&server.grants(), "honest", request("POST", &url, "hello")).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-echo"], "Bearer ********");
    assert_eq!(response.body(), "you said Bearer ******** and hello");
    let heads = server.api_heads();
    assert_eq!(heads[0].headers[AUTHORIZATION], "Bearer secret-1");
    assert_eq!(heads[0].uri.query(), Some("page=2"));
}

#[tokio::test]
async fn what_a_plugin_says_of_credentials_itself_is_left_out() {
    let server = Server::start().await;
    let url = format!("{}/items", server.origin);
    let mut own = request("GET", &url, "");
    for name in [
        "authorization",
        "dpop",
        "cookie",
        "proxy-authorization",
        "te",
        "accept-encoding",
    ] {
        own.headers_mut()
            .insert(name, HeaderValue::from_static("mine"));
    }
    own.headers_mut()
        .insert("x-mine", HeaderValue::from_static("kept"));
    sent_by(&server.grants(), "honest", own).await.unwrap();
    let head = server.api_heads().remove(0);
    assert_eq!(head.headers[AUTHORIZATION], "Bearer secret-1");
    assert_eq!(head.headers.get_all(AUTHORIZATION).iter().count(), 1);
    for name in ["dpop", "cookie", "proxy-authorization", "te"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert_eq!(head.headers["accept-encoding"], "identity");
    assert_eq!(head.headers["x-mine"], "kept");
}

#[tokio::test]
async fn nothing_leaves_for_an_origin_that_was_not_granted() {
    let server = Server::start().await;
    let other = Server::start().await;
    let grants = server.grants();
    let authority = server.origin.trim_start_matches("http://");
    for url in [
        format!("{}/items", other.origin),
        format!("https://{authority}/items"),
        format!("http://user@{authority}/items"),
        format!("http://thief.example@{authority}/items"),
        format!(
            "http://{authority}@{}/items",
            other.origin.trim_start_matches("http://")
        ),
        format!(
            "http://localhost:{}/items",
            authority.rsplit(':').next().unwrap()
        ),
        "http://127.0.0.1/items".to_owned(),
    ] {
        let refused = sent_by(&grants, "honest", request("GET", &url, "")).await;
        assert!(
            matches!(refused, Err(HttpError::HttpRequestDenied)),
            "{url}"
        );
    }
    let url = format!("{}/items", server.origin);
    let refused = sent_by(&grants, "idle", request("GET", &url, "")).await;
    assert!(matches!(refused, Err(HttpError::HttpRequestDenied)));
    assert!(server.heads.lock().unwrap().is_empty());
    assert!(other.heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_is_the_plugins_to_see_and_nobodys_to_follow() {
    let server = Server::start().await;
    let url = format!("{}/redirect", server.origin);
    let response = sent_by(&server.grants(), "honest", request("GET", &url, "")).await;
    assert_eq!(response.unwrap().status(), StatusCode::FOUND);
    assert_eq!(server.api_heads().len(), 1);
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_sent_once_more() {
    let server = Server::start().await;
    let url = format!("{}/latest", server.origin);
    let response = sent_by(&server.grants(), "honest", request("PUT", &url, "again")).await;
    assert_eq!(
        response.unwrap().body(),
        "you said Bearer ******** and again"
    );
    assert_eq!(server.api_heads().len(), 2);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_once_more_as_well() {
    let server = Server::start().await;
    let url = format!("{}/latest", server.origin);
    let streamed = Request::put(&url).body(frames_of(["one", "two"])).unwrap();
    let response = sent_by(&server.grants(), "honest", streamed).await;
    assert_eq!(
        response.unwrap().body(),
        "you said Bearer ******** and onetwo"
    );
    assert_eq!(server.api_heads().len(), 2);
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_sent_once() {
    let server = Server::start().await;
    let url = format!("{}/latest", server.origin);
    let long: &str = "x".repeat(REPLAY_LIMIT).leak();
    let streamed = Request::put(&url).body(frames_of([long, "x"])).unwrap();
    let response = sent_by(&server.grants(), "honest", streamed).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.api_heads().len(), 1);
}

#[tokio::test]
async fn a_body_of_announced_length_is_sent_once_more_as_well() {
    let server = Server::start().await;
    let url = format!("{}/latest", server.origin);
    let streamed = Request::put(&url).header(CONTENT_LENGTH, "6");
    let streamed = streamed.body(frames_of(["one", "two"])).unwrap();
    let response = sent_by(&server.grants(), "honest", streamed).await;
    assert_eq!(
        response.unwrap().body(),
        "you said Bearer ******** and onetwo"
    );
}

#[tokio::test]
async fn parts_without_anything_in_them_take_no_room() {
    let copy = Arc::new(Mutex::new(Copied::default()));
    let kept = Kept {
        body: frames_of(["", ""]),
        copy: Arc::clone(&copy),
    };
    kept.collect().await.unwrap();
    assert_eq!(copy.lock().unwrap().data.capacity(), 0);
    assert!(again(&copy).is_some());
}

#[tokio::test]
async fn a_plugin_that_says_time_and_again_that_the_token_is_refused_has_it_renewed_once() {
    let server = Server::start().await;
    let url = format!("{}/never", server.origin);
    let grants = server.grants();
    for _ in 0..3 {
        let response = sent_by(&grants, "honest", request("PUT", &url, "")).await;
        assert_eq!(response.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(server.issued(), 2);
    // Nor by asking for it, where it is lent, whoever was given the token.
    let connection = &grants.rules_of("honest")[0].connection;
    for token in ["secret-2", "secret-3"] {
        let options = TokenOptions {
            rejected: Some(token.to_owned()),
            ..TokenOptions::default()
        };
        assert_eq!(within_bounds(options, connection).rejected, None);
    }
}

#[tokio::test]
async fn a_request_that_is_to_have_no_body_is_sent_without_one_or_not_at_all() {
    let server = Server::start().await;
    let url = format!("{}/items", server.origin);
    let empty = Request::get(&url).header(TRANSFER_ENCODING, "chunked");
    let empty = empty.body(frames_of(["", ""])).unwrap();
    sent_by(&server.grants(), "honest", empty).await.unwrap();
    let heads = server.api_heads();
    assert!(!heads[0].headers.contains_key(TRANSFER_ENCODING));
    let smuggled = Request::get(&url).header(CONTENT_LENGTH, "25");
    let smuggled = smuggled.body(frames_of(["", "GET /other HTTP/1.1\r\nx: "]));
    let refused = sent_by(&server.grants(), "honest", smuggled.unwrap()).await;
    assert!(matches!(
        refused,
        Err(HttpError::HttpRequestBodySize(Some(0)))
    ));
    assert_eq!(server.api_heads().len(), 1);
}

#[tokio::test]
async fn a_response_in_a_coding_that_could_hide_the_token_is_refused() {
    let server = Server::start().await;
    let url = format!("{}/coded", server.origin);
    let refused = sent_by(&server.grants(), "honest", request("GET", &url, "")).await;
    let Err(HttpError::HttpResponseContentCoding(Some(coding))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(coding, "rot13");
}

#[tokio::test]
async fn a_plugin_that_leaves_its_responses_unread_holds_up_nobody_else() {
    let server = Server::start().await;
    let policy = NetworkPolicy {
        in_flight_per_origin: NonZeroUsize::MIN,
        ..NetworkPolicy::default()
    };
    let host = Host::builder().network(policy).build().unwrap();
    let connection = host.connection("crm", server.config());
    let grants = Grants::of(["hoarder", "honest"], [connection.clone()])
        .allow("hoarder", "crm", &server.origin)
        .and_then(|grants| grants.allow("honest", "crm", &server.origin))
        .unwrap();
    let url = format!("{}/items", server.origin);
    let mut hooks = grants.hooks("hoarder").unwrap();
    let processed: Processing = Box::new(async { Ok(()) });
    let hoarded = hooks.send_request(request("PUT", &url, ""), None, processed);
    let hoarded = Box::into_pin(hoarded).await.unwrap();
    sent_by(&grants, "honest", request("PUT", &url, ""))
        .await
        .unwrap();
    connection.refresh().await.unwrap();
    drop(hoarded);
}

/// A body whose length is not known beforehand.
fn frames_of(parts: [&'static str; 2]) -> WasiBody {
    struct Parts(std::array::IntoIter<&'static str, 2>);
    impl Body for Parts {
        type Data = Bytes;
        type Error = HttpError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            let next = self.0.next();
            Poll::Ready(next.map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
        }
    }
    Parts(parts.into_iter()).boxed_unsync()
}

#[test]
fn a_grant_of_what_there_is_not_is_refused_with_what_there_is() {
    let host = Host::builder().build().unwrap();
    let grants = || Grants::of(["reports"], [host.connection("crm", Config::default())]);
    let told = |grants: Result<Grants, GrantError>| match grants {
        Ok(_) => panic!("it was granted"),
        Err(error) => error.to_string(),
    };
    let api = "https://api.example.com";
    let plugin = told(grants().allow("report", "crm", api));
    assert!(
        plugin.contains("report;") && plugin.contains("reports"),
        "{plugin}"
    );
    let connection = told(grants().allow("reports", "cms", api));
    assert!(
        connection.contains("cms") && connection.contains("crm"),
        "{connection}"
    );
    for origin in [
        "api.example.com",
        "https://api.example.com/",
        "https://api.example.com/v1",
        "https://user@api.example.com",
        "http://api.example.com",
        "https://*.example.com",
        "",
    ] {
        let refused = told(grants().allow("reports", "crm", origin));
        assert!(
            refused.contains("expected scheme, host and port"),
            "{refused}"
        );
    }
    assert!(grants().hooks("report").is_err());
}

#[test]
fn a_token_is_masked_wherever_the_parts_of_a_body_are_torn() {
    let whole = b"a secret-1 and secret-1secret-1 but no secret-2, secret-";
    let expected = b"a ******** and **************** but no secret-2, secret-";
    for at in 0..whole.len() {
        let parts =
            [&whole[..at], &whole[at..]].map(|part| String::from_utf8(part.to_vec()).unwrap());
        let body = frames_of(parts.map(|part| &*part.leak()));
        let masked = without(Response::new(body), "secret-1").unwrap();
        let masked = masked.into_body().collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(masked).unwrap().to_bytes(), expected[..]);
    }
}

#[test]
fn a_token_is_masked_however_it_is_written() {
    let token = "a/b+c==";
    let secret = Spellings::of(token);
    for written in [
        "a/b+c==",
        r"a\/b+c==",
        r"a/b+c\u003d\u003d",
        r"a/b\u002bc\u003d\u003d",
        "a%2Fb%2Bc%3D%3D",
        "a%2fb%2bc%3d%3d",
    ] {
        let mut body = format!("<{written}>").into_bytes();
        assert!(secret.mask(&mut body), "{written}");
        let masked = format!("<{}>", "*".repeat(written.len()));
        assert_eq!(String::from_utf8(body).unwrap(), masked);
    }
}
