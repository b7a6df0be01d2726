//! The component in the reference host, against an authorization server and a
//! resource server on the loopback interface. Without a component in the build
//! there is nothing to test, and every test fails saying so.

mod conformance;
mod hostile;
mod plugins;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokenwell::{
    Config, Connection, ConnectionState, Error, Grant, Host, Limits, LocalSecrets, MemoryStore,
    NetworkPolicy, Secret, Severity, TlsMode, TokenOptions, TokenStore,
};
use tokenwell_tests::workspace;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

/// An authorization server for the client credentials grant, and a resource
/// that takes only the latest token.
#[derive(Clone)]
struct Server {
    address: String,
    tokens: Arc<AtomicUsize>,
    requested: Arc<Notify>,
    released: Arc<Notify>,
}

/// How the token endpoint behaves.
#[derive(Clone, Copy)]
enum TokenEndpoint {
    Grants,
    Refuses,
    /// Grants once it is released.
    Waits,
}

impl Server {
    async fn start(endpoint: TokenEndpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            tokens: Arc::default(),
            requested: Arc::default(),
            released: Arc::default(),
        };
        let answering = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = answering.clone();
                let service = service_fn(move |request| server.clone().answer(request, endpoint));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    fn config(&self) -> Config {
        Config {
            grant: Grant::ClientCredentials,
            client_id: Some("platform".to_owned()),
            client_secret: Some(Secret::Literal("hunter2".to_owned())),
            token_endpoint: Some(format!("{}/token", self.address)),
            ..Config::default()
        }
    }

    fn issued(&self) -> usize {
        self.tokens.load(Ordering::SeqCst)
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        endpoint: TokenEndpoint,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let _ = body.collect().await;
        let authorization = parts.headers.get("authorization");
        let authorization = authorization
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let respond = |status, body: String| {
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .header(
                    "www-authenticate",
                    "Bearer realm=\"r\", error=\"invalid_token\"",
                )
                .body(Full::new(Bytes::from(body)))
                .unwrap()
        };
        if let ("/token", TokenEndpoint::Waits) = (parts.uri.path(), endpoint) {
            self.requested.notify_one();
            self.released.notified().await;
        }
        Ok(match (parts.uri.path(), endpoint) {
            ("/token", TokenEndpoint::Refuses) => respond(
                401,
                r#"{"error":"invalid_client","error_description":"who are you"}"#.to_owned(),
            ),
            // The Basic credentials of platform:hunter2.
            ("/token", TokenEndpoint::Grants | TokenEndpoint::Waits)
                if authorization == "Basic cGxhdGZvcm06aHVudGVyMg==" =>
            {
                let number = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
                respond(
                    200,
                    format!(
                        r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#
                    ),
                )
            }
            ("/elsewhere", _) => {
                let mut response = respond(302, String::new());
                response
                    .headers_mut()
                    .insert("location", "/resource".parse().unwrap());
                response
            }
            ("/resource", _) => {
                let latest = format!("Bearer token-{}", self.issued());
                respond(
                    if authorization == latest { 200 } else { 401 },
                    authorization.to_owned(),
                )
            }
            _ => respond(400, String::new()),
        })
    }
}

async fn connection() -> (Server, Connection) {
    let server = Server::start(TokenEndpoint::Grants).await;
    let connection = Host::builder()
        .build()
        .unwrap()
        .connection("crm", server.config());
    (server, connection)
}

#[tokio::test]
async fn a_config_is_read_from_json() {
    let host = Host::builder().build().unwrap();
    let config = host
        .parse_config(
            r#"{"grant_type": "client_credentials", "client_id": "a",
                "client_secret": {"ref": "env:SECRET"}, "token_endpoint": "https://as.example/t"}"#,
        )
        .await
        .unwrap();
    assert_eq!(config.grant, Grant::ClientCredentials);
    assert_eq!(
        config.client_secret,
        Some(Secret::Reference("env:SECRET".to_owned()))
    );
    let json = host.format_config(&config).await.unwrap();
    assert_eq!(host.parse_config(&json).await.unwrap(), config);
}

#[tokio::test]
async fn the_default_config_is_that_of_an_empty_document() {
    let host = Host::builder().build().unwrap();
    assert_eq!(host.parse_config("{}").await.unwrap(), Config::default());
}

#[tokio::test]
async fn a_config_that_cannot_be_read_is_an_error_with_its_problems() {
    let host = Host::builder().build().unwrap();
    match host
        .parse_config(r#"{"clinet_id": "a", "timeout": "long"}"#)
        .await
    {
        Err(Error::NotConfigured(problems)) => {
            let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
            assert!(
                fields.contains(&"clinet_id") && fields.contains(&"timeout"),
                "{fields:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_empty_config_is_not_configured() {
    let host = Host::builder().build().unwrap();
    let status = host
        .connection("crm", Config::default())
        .status()
        .await
        .unwrap();
    assert!(
        matches!(status.state, ConnectionState::NotConfigured(_)),
        "{status:?}"
    );
}

#[tokio::test]
async fn client_credentials_give_a_token_and_then_the_same_one() {
    let (server, connection) = connection().await;
    let first = connection.token(TokenOptions::default()).await.unwrap();
    let second = connection.token(TokenOptions::default()).await.unwrap();
    assert_eq!(first.access_token, "token-1");
    assert_eq!(second, first);
    assert_eq!(server.issued(), 1);
    let status = connection.status().await.unwrap();
    assert_eq!(status.state, ConnectionState::Authorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_cause_one_token_request() {
    let (server, connection) = connection().await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let connection = connection.clone();
        callers.spawn(async move { connection.token(TokenOptions::default()).await.unwrap() });
    }
    for token in callers.join_all().await {
        assert_eq!(token.access_token, "token-1");
    }
    assert_eq!(server.issued(), 1);
}

#[tokio::test]
async fn two_hosts_on_one_directory_share_the_token() {
    let server = Server::start(TokenEndpoint::Grants).await;
    let directory = TempDir::new().unwrap();
    let dir = directory.path();
    for _ in 0..2 {
        let host = Host::in_directory(dir).build().unwrap();
        let connection = host.connection("crm", server.config());
        let token = connection.token(TokenOptions::default()).await.unwrap();
        assert_eq!(token.access_token, "token-1");
    }
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = std::fs::read_to_string(&path).unwrap();
            assert!(!content.contains("token-1"), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said() {
    let server = Server::start(TokenEndpoint::Refuses).await;
    let host = Host::builder().build().unwrap();
    let connection = host.connection("crm", server.config());
    match connection.token(TokenOptions::default()).await {
        Err(Error::Refused(said)) => {
            assert_eq!(said.code, "invalid_client");
            assert_eq!(said.http_status, Some(401));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_at_the_token_endpoint_is_unavailable() {
    let host = Host::builder().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    drop(listener);
    let server = Server::start(TokenEndpoint::Grants).await;
    let config = Config {
        token_endpoint: Some(endpoint),
        ..server.config()
    };
    let token = host
        .connection("crm", config)
        .token(TokenOptions::default())
        .await;
    assert!(matches!(token, Err(Error::Unavailable(_))), "{token:?}");
}

#[tokio::test]
async fn tls_that_the_policy_does_not_allow_is_refused_before_anything_is_sent() {
    let server = Server::start(TokenEndpoint::Grants).await;
    let mut policy = NetworkPolicy::default();
    policy.tls_trust = false;
    let host = Host::builder().network(policy).build().unwrap();
    for tls in [TlsMode::Trust, TlsMode::Off] {
        let config = Config {
            tls,
            ..server.config()
        };
        let connection = host.connection("crm", config);
        let problems = connection.check().await.unwrap();
        assert_eq!(problems[0].field, "tls");
        assert_eq!(problems[0].severity, Severity::Error);
        let token = connection.token(TokenOptions::default()).await;
        assert!(matches!(token, Err(Error::Forbidden(_))), "{token:?}");
    }
    assert_eq!(server.issued(), 0);
}

#[tokio::test]
async fn a_request_to_an_origin_that_nothing_names_is_refused_and_told() {
    let other = Server::start(TokenEndpoint::Grants).await;
    let issuer = issuer_naming(&format!("{}/token", other.address), Claims::Itself).await;
    let host = Host::builder().build().unwrap();
    // The metadata names the other server, and is the issuer's own: allowed.
    let config = Config {
        token_endpoint: None,
        issuer: Some(issuer),
        ..other.config()
    };
    let token = host
        .connection("crm", config.clone())
        .token(TokenOptions::default())
        .await;
    assert!(token.is_ok(), "{token:?}");
    // The metadata of another issuer names nothing.
    let config = Config {
        issuer: Some(issuer_naming(&format!("{}/token", other.address), Claims::Another).await),
        ..config
    };
    let token = host
        .connection("cms", config)
        .token(TokenOptions::default())
        .await;
    assert!(
        matches!(token, Err(Error::ProtocolViolation(_))),
        "{token:?}"
    );
    assert_eq!(other.issued(), 1);
}

#[tokio::test]
async fn a_policy_of_public_addresses_keeps_requests_off_this_machine() {
    let server = Server::start(TokenEndpoint::Grants).await;
    let mut policy = NetworkPolicy::default();
    policy.private_addresses = false;
    let host = Host::builder().network(policy).build().unwrap();
    for address in [
        server.address.clone(),
        server.address.replace("127.0.0.1", "localhost"),
    ] {
        let config = Config {
            token_endpoint: Some(format!("{address}/token")),
            ..server.config()
        };
        let token = host
            .connection("crm", config)
            .token(TokenOptions::default())
            .await;
        match token {
            Err(Error::Forbidden(why)) => assert!(why.contains("no public address"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.issued(), 0);
}

/// Whose metadata an issuer gives out.
#[derive(Clone, Copy, PartialEq)]
enum Claims {
    Itself,
    Another,
}

/// An issuer whose metadata names that token endpoint; its URL.
async fn issuer_naming(token_endpoint: &str, claims: Claims) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let named = match claims {
        Claims::Itself => issuer.as_str(),
        Claims::Another => "https://as.example",
    };
    let metadata = format!(r#"{{"issuer": "{named}", "token_endpoint": "{token_endpoint}"}}"#);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let metadata = metadata.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let body = Full::new(Bytes::from(metadata.clone()));
                async { Ok::<_, Infallible>(Response::new(body)) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    issuer
}

#[tokio::test]
async fn a_token_is_handed_out_again_without_the_component_until_the_store_has_another() {
    let server = Server::start(TokenEndpoint::Grants).await;
    let store = Arc::new(MemoryStore::new());
    let secrets = LocalSecrets::in_memory();
    let host = || {
        Host::builder()
            .store(Arc::clone(&store))
            .secrets(secrets.clone())
            .build()
            .unwrap()
    };
    let (here, there) = (host(), host());
    let mine = here.connection("crm", server.config());
    let yours = there.connection("crm", server.config());
    let first = mine.token(TokenOptions::default()).await.unwrap();
    assert_eq!(mine.token(TokenOptions::default()).await.unwrap(), first);
    // Somebody else renews: the old one is not handed out any more.
    let renewed = yours.refresh().await.unwrap();
    assert_ne!(renewed, first);
    assert_eq!(mine.token(TokenOptions::default()).await.unwrap(), renewed);
    yours.clear().await.unwrap();
    let after = mine.token(TokenOptions::default()).await.unwrap();
    assert_ne!(after, renewed);
    assert_eq!(server.issued(), 3);
}

#[tokio::test]
async fn a_call_that_is_dropped_before_it_has_sent_anything_ends_at_once() {
    let server = Server::start(TokenEndpoint::Grants).await;
    let store = MemoryStore::new();
    let host = Host::builder()
        .store(store.clone())
        .secrets(LocalSecrets::in_memory());
    let connection = host.build().unwrap().connection("crm", server.config());
    // The call waits for this lease.
    let ttl = Duration::from_secs(60);
    let held = store
        .acquire_lease("crm.tokens", ttl, Duration::ZERO)
        .await
        .unwrap();
    let call = connection.token(TokenOptions::default());
    assert!(timeout(Duration::from_millis(100), call).await.is_err());
    drop(held);
    // The next one has all it needs, and the dropped one has sent nothing.
    connection.token(TokenOptions::default()).await.unwrap();
    assert_eq!(server.issued(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_while_the_server_may_be_answering_stores_what_it_answers() {
    let server = Server::start(TokenEndpoint::Waits).await;
    let host = Host::builder().build().unwrap();
    let connection = host.connection("crm", server.config());
    {
        let call = connection.token(TokenOptions::default());
        tokio::pin!(call);
        tokio::select! {
            result = &mut call => panic!("{result:?}"),
            () = server.requested.notified() => {}
        }
    }
    server.released.notify_one();
    let token = connection.token(TokenOptions::default()).await.unwrap();
    assert_eq!(token.access_token, "token-1");
    assert_eq!(server.issued(), 1);
}

#[tokio::test]
async fn the_time_that_a_call_waits_for_a_server_is_no_computing_time() {
    const BODY: &str = r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"padding":"................................................"}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            BODY.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The component wakes for each.
        for byte in BODY.as_bytes() {
            tokio::time::sleep(Duration::from_millis(15)).await;
            stream.write_all(&[*byte]).await.unwrap();
        }
    });
    let limits = {
        let mut limits = Limits::default();
        limits.compute = Duration::from_millis(500);
        limits
    };
    let config = Config {
        token_endpoint: Some(format!("{address}/token")),
        ..Server::start(TokenEndpoint::Grants).await.config()
    };
    let host = Host::builder().limits(limits).build().unwrap();
    let token = host
        .connection("crm", config)
        .token(TokenOptions::default())
        .await;
    assert_eq!(token.unwrap().access_token, "a");
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_up_its_own_connections_alone() {
    let (silent, other) = (
        Server::start(TokenEndpoint::Waits).await,
        Server::start(TokenEndpoint::Grants).await,
    );
    let mut limits = Limits::default();
    limits.instances = 8.try_into().unwrap();
    let host = Host::builder().limits(limits).build().unwrap();
    for number in 0..50 {
        let connection = host.connection(&format!("silent-{number}"), silent.config());
        tokio::spawn(async move { connection.token(TokenOptions::default()).await });
    }
    silent.requested.notified().await;
    let connection = host.connection("crm", other.config());
    connection.token(TokenOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_request_is_sent_with_the_token() {
    let (server, connection) = connection().await;
    let request = Request::get(format!("{}/resource", server.address)).body(Bytes::new());
    let response = connection.send(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.body(), "Bearer token-1");
}

#[tokio::test]
async fn a_token_that_the_resource_refuses_is_renewed_once() {
    let (server, connection) = connection().await;
    connection.token(TokenOptions::default()).await.unwrap();
    // The resource now takes only a token that is yet to be issued.
    let other = Host::builder()
        .build()
        .unwrap()
        .connection("erp", server.config());
    other.token(TokenOptions::default()).await.unwrap();

    let request = Request::get(format!("{}/resource", server.address)).body(Bytes::new());
    let response = connection.send(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.body(), "Bearer token-3");
    assert_eq!(server.issued(), 3);
}

#[tokio::test]
async fn a_request_in_the_clear_to_another_machine_is_forbidden() {
    let (_server, connection) = connection().await;
    let request = Request::get("http://192.0.2.1/")
        .body(Bytes::new())
        .unwrap();
    let response = connection.send(request).await;
    assert!(matches!(response, Err(Error::Forbidden(_))), "{response:?}");
}

#[tokio::test]
async fn a_redirect_of_a_resource_is_handed_back() {
    let (server, connection) = connection().await;
    let request = Request::get(format!("{}/elsewhere", server.address)).body(Bytes::new());
    assert_eq!(
        connection.send(request.unwrap()).await.unwrap().status(),
        302
    );
}

#[tokio::test]
async fn without_a_user_agent_nobody_can_be_asked() {
    let server = Server::start(TokenEndpoint::Grants).await;
    let config = Config {
        grant: Grant::AuthorizationCode,
        authorization_endpoint: Some(format!("{}/authorize", server.address)),
        ..server.config()
    };
    let connection = Host::builder().build().unwrap().connection("crm", config);
    let status = connection
        .authorize(tokenwell::AuthorizeOptions::default())
        .await;
    assert!(matches!(status, Err(Error::Forbidden(_))), "{status:?}");
}

#[tokio::test]
async fn a_name_that_cannot_be_a_key_is_refused() {
    let host = Host::builder().build().unwrap();
    assert!(
        host.connection("../crm", Config::default())
            .status()
            .await
            .is_err()
    );
}

#[test]
fn debug_shows_no_secret() {
    let config = Config {
        client_secret: Some(Secret::Literal("hunter2".to_owned())),
        token_headers: vec![tokenwell::Parameter {
            name: "X-Key".to_owned(),
            value: "hunter2".to_owned(),
        }],
        ..Config::default()
    };
    let shown = format!("{config:?}");
    assert!(shown.contains("X-Key"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_damaged_component_does_not_build() {
    let damaged = b"\0asm\x0d\0\x01\0junk".to_vec();
    let host = Host::builder().component(damaged).build();
    assert!(matches!(host, Err(tokenwell::BuildError::Component(_))));
}

#[test]
fn what_is_no_component_does_not_build() {
    let host = Host::builder().component(b"PK junk".to_vec()).build();
    let refused = host.err().unwrap().to_string();
    assert!(
        refused.contains("found what is no WebAssembly;"),
        "{refused}"
    );
}

#[test]
fn the_headless_component_does_not_build_a_host_that_has_a_user() {
    let headless = workspace().join("target/component/tokenwell.wasm");
    let headless = std::fs::read(headless).unwrap();
    let host = Host::builder().component(headless).build();
    let refused = host.err().unwrap().to_string();
    assert_eq!(
        refused,
        "the component exports tokenwell:oauth2/connections@0.2.0; \
         expected tokenwell:oauth2/interactive@0.2.0"
    );
}

#[test]
fn a_store_without_secrets_does_not_build() {
    let host = Host::builder().store(MemoryStore::new()).build();
    assert!(matches!(host, Err(tokenwell::BuildError::NoSecrets)));
}
