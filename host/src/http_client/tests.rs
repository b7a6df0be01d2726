//! The client against servers on the loopback interface.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::certificates::HeldTo;
use super::*;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

fn get(url: &str) -> Request<WasiBody> {
    let body = Empty::new().map_err(|e| match e {}).boxed_unsync();
    Request::get(url).body(body).unwrap()
}

fn patient() -> RequestOptions {
    RequestOptions {
        connect_timeout: Some(LONG),
        first_byte_timeout: Some(LONG),
        between_bytes_timeout: Some(LONG),
    }
}

fn client() -> HttpClient {
    client_under(NetworkPolicy::default(), Judgement::System)
}

fn client_under(policy: NetworkPolicy, judgement: Judgement) -> HttpClient {
    let manner = Manner {
        identity: None,
        judgement,
    };
    HttpClient::new(Arc::new(Shared::new(policy)), manner)
}

fn witness_of(tell: impl Fn(Event) + Send + Sync + 'static) -> Witness {
    Witness {
        connection: "shop".into(),
        events: Arc::new(tell),
    }
}

/// A server that answers each request head on a connection with these bytes.
/// Tells its address and how many connections there have been.
async fn server(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut chunk = [0; 1024];
                loop {
                    let read = stream.read(&mut chunk).await.unwrap();
                    if read == 0 {
                        break;
                    }
                    request.extend_from_slice(&chunk[..read]);
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (url, connections)
}

async fn failure(url: &str, options: RequestOptions) -> Error {
    match client().send(get(url), options).await {
        Ok(response) => panic!("{}", response.status()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_response_comes_back_whole() {
    let (url, _) = server("HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Length: 4\r\n\r\nbody").await;
    let response = client().send(get(&url), patient()).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-a"], "b");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "body");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (url, connections) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let client = client();
    for _ in 0..5 {
        let response = client.send(get(&url), patient()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (target, connections) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
    let (url, _) = server(answer.leak()).await;
    let response = client().send(get(&url), patient()).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plain_http_leaves_this_machine_for_nobody() {
    for url in [
        "http://example.com/",
        "http://192.0.2.1/",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
        "http://[2001:db8::1]/",
        "ftp://127.0.0.1/",
        "/relative",
    ] {
        let error = failure(url, patient()).await;
        assert!(matches!(error, Error::HttpRequestDenied), "{url}: {error}");
    }
}

#[test]
fn plain_http_is_allowed_on_the_loopback_interface() {
    for url in [
        "http://127.0.0.1:1/",
        "http://127.8.8.8/",
        "http://[::1]/",
        "http://LOCALHOST/",
    ] {
        assert!(is_allowed(&url.parse().unwrap()), "{url}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = failure(&url, patient()).await;
    assert!(matches!(error, Error::ConnectionRefused), "{error}");
}

#[test]
fn a_server_that_no_route_leads_to_is_not_there() {
    for kind in [
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
    ] {
        let error = failed(Box::new(io::Error::from(kind)));
        assert!(matches!(error, Error::DestinationUnavailable), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error() {
    let error = failure("https://nobody.invalid/", patient()).await;
    assert!(matches!(error, Error::DnsError { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_incomplete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut chunk = [0; 1024];
        let _ = stream.read(&mut chunk).await;
    });
    let error = failure(&url, patient()).await;
    assert!(matches!(error, Error::HttpResponseIncomplete), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_error() {
    let (url, _) = server("220 mail.example.com ESMTP\r\n\r\n").await;
    let error = failure(&url, patient()).await;
    assert!(matches!(error, Error::HttpProtocolError), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut chunk = [0; 1024];
        let _ = stream.read(&mut chunk).await;
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
        stream.write_all(half).await.unwrap();
    });
    let response = client().send(get(&url), patient()).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let options = RequestOptions {
        first_byte_timeout: Some(Duration::from_secs(3)),
        ..patient()
    };
    let error = failure(&url, options).await;
    assert!(matches!(error, Error::HttpResponseTimeout), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_finish_its_handshake_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let options = RequestOptions {
        connect_timeout: Some(Duration::from_secs(3)),
        ..patient()
    };
    let error = failure(&url, options).await;
    assert!(matches!(error, Error::ConnectionTimeout), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_times_out() {
    let (url, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let client = client();
    let options = RequestOptions {
        between_bytes_timeout: Some(Duration::from_secs(3)),
        ..patient()
    };
    let response = client.send(get(&url), options).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_a_tls_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = failure(&url, patient()).await;
    assert!(matches!(error, Error::TlsProtocolError), "{error}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let url = format!("https://localhost:{}/", tls_server().await);
    let error = failure(&url, patient()).await;
    assert!(matches!(error, Error::TlsCertificateError), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told() {
    let url = format!("https://localhost:{}/", tls_server().await);
    let exchanged = client().exchange(get(&url), patient()).await;
    let error = exchanged.err().unwrap();
    assert!(certificate_problem(&*error).is_some(), "{error}");
    let problem = |what: CertificateError| certificate_problem(&rustls::Error::from(what));
    for (what, told) in [
        (CertificateError::Expired, "it has expired"),
        (CertificateError::NotValidForName, "it is for another host"),
    ] {
        assert_eq!(problem(what).as_deref(), Some(told));
    }
}

#[test]
fn only_what_the_host_itself_refuses_is_called_refused() {
    let other = |error: Arc<dyn StdError + Send + Sync>| {
        let error = CertificateError::Other(rustls::OtherError(error));
        rustls::Error::InvalidCertificate(error)
    };
    let replaced = other(Arc::new(Replaced {
        server: "as.example:443".to_owned(),
        held_to: HeldTo::Vouched,
        shown: "bb".to_owned(),
    }));
    assert!(refused(&replaced).is_some());
    let unfit = other(Arc::new(io::Error::other("CaUsedAsEndEntity")));
    assert_eq!(refused(&unfit), None);
    assert_eq!(
        certificate_problem(&unfit).as_deref(),
        Some("it is an authority's own, with which no server may answer")
    );
}

/// A server that grants over TLS, with a certificate of its own making.
async fn tls_server() -> u16 {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut chunk = [0; 4096];
            let _ = stream.read(&mut chunk).await;
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        }
    });
    port
}

/// A proxy that makes one tunnel, to that port of this machine whatever it is
/// asked for. Tells its own port, and what it is asked.
async fn proxy_before(port: u16) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own_port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
        String::from_utf8(head).unwrap()
    });
    (own_port, asked)
}

fn client_behind(proxy: String, policy: NetworkPolicy) -> HttpClient {
    let mut shared = Shared::new(policy);
    shared.proxies = Some(Matcher::builder().https(proxy).build());
    let manner = Manner {
        identity: None,
        judgement: Judgement::Anything(witness_of(|_| {})),
    };
    HttpClient::new(Arc::new(shared), manner)
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_and_sees_nothing_of_the_request() {
    let (port, asked) = proxy_before(tls_server().await).await;
    let proxy = format!("http://user:pass@127.0.0.1:{port}");
    let client = client_behind(proxy, NetworkPolicy::default());
    // A name that only the proxy could resolve.
    let response = client
        .send(get("https://as.invalid/token"), patient())
        .await;
    assert_eq!(response.unwrap().status(), 200);
    drop(client);
    let head = asked.await.unwrap();
    assert!(head.starts_with("CONNECT as.invalid:443 "), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("proxy-authorization: basic "),
        "{head}"
    );
}

#[tokio::test]
async fn a_proxy_may_be_at_a_private_address_where_servers_may_not() {
    for host in ["127.0.0.1", "localhost"] {
        let (port, asked) = proxy_before(tls_server().await).await;
        let policy = NetworkPolicy {
            private_addresses: false,
            ..NetworkPolicy::default()
        };
        let client = client_behind(format!("http://{host}:{port}"), policy);
        let sent = client.send(get("https://as.invalid/"), patient()).await;
        assert_eq!(sent.unwrap().status(), 200, "{host}");
        drop(client);
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_something_else_is_not_asked() {
    for scheme in ["https", "socks4", "socks5", "socks5h"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("{scheme}://user:pass@{}", listener.local_addr().unwrap());
        let client = client_behind(proxy, NetworkPolicy::default());
        let sending = client.exchange(get("https://as.invalid/"), patient());
        let error = sending.await.err().unwrap();
        let why = refused(&*error).unwrap();
        assert!(why.contains(&format!("{scheme}://")), "{why}");
        assert!(why.contains("http://"), "{why}");
        let failed = failed(error);
        assert!(matches!(failed, Error::HttpRequestDenied), "{failed}");

        let sent = client.send(get("https://as.invalid/"), patient()).await;
        let told = sent.err().unwrap().to_string();
        assert!(told.contains(&why), "{told}");

        let asked = time::timeout(Duration::from_millis(100), listener.accept());
        assert!(asked.await.is_err(), "{scheme}");
    }
}

#[tokio::test]
async fn addresses_that_are_not_public_can_be_refused() {
    let policy = || NetworkPolicy {
        private_addresses: false,
        ..NetworkPolicy::default()
    };
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let client = client_under(policy(), Judgement::System);
        let url = format!("https://{host}:1/");
        let error = client.send(get(&url), patient()).await.err();
        assert!(
            matches!(error, Some(Error::DestinationIpProhibited)),
            "{host}: {error:?}"
        );
    }
}

#[tokio::test]
async fn no_more_requests_are_under_way_to_an_origin_than_the_policy_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let policy = NetworkPolicy {
        in_flight_per_origin: std::num::NonZeroUsize::new(2).unwrap(),
        ..NetworkPolicy::default()
    };
    let client = Arc::new(client_under(policy, Judgement::System));
    let sent: Vec<_> = (0..3)
        .map(|_| {
            let (client, url) = (Arc::clone(&client), url.clone());
            tokio::spawn(async move {
                let response = client.send(get(&url), patient()).await.unwrap();
                response.into_body().collect().await.unwrap();
            })
        })
        .collect();
    let (mut first, _) = listener.accept().await.unwrap();
    let (_second, _) = listener.accept().await.unwrap();
    let third = time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(third.is_err(), "a third was let through");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    first.write_all(answer).await.unwrap();
    // On the connection of the first, or a new one.
    let mut chunk = [0; 1024];
    let mut again = async |stream: &mut TcpStream| {
        let mut heads = 0;
        while heads < 2 {
            let read = stream.read(&mut chunk).await.unwrap();
            let text = String::from_utf8_lossy(&chunk[..read]).into_owned();
            heads += text.matches("GET / ").count();
        }
    };
    tokio::select! {
        () = again(&mut first) => {}
        accepted = listener.accept() => drop(accepted.unwrap()),
    }
    for task in sent {
        task.abort();
    }
}

#[tokio::test]
async fn each_request_to_a_server_whose_certificate_nobody_judges_is_told() {
    let url = format!("https://localhost:{}/", tls_server().await);
    let (plain, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&told);
    let witness = witness_of(move |event| events.lock().unwrap().push(event));
    let client = client_under(NetworkPolicy::default(), Judgement::Anything(witness));
    for url in [&url, &url, &plain] {
        let response = client.send(get(url), patient()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 2);
    for event in told.iter() {
        assert_eq!((&*event.connection, &*event.kind), ("shop", "insecure"));
        assert!(event.message.contains("tls is off"), "{}", event.message);
    }
}

/// An issuer on a new port whose token endpoint is at the origin in the mutex.
/// Tells its URL and how often it was asked for its metadata.
async fn issuer(origin: Arc<Mutex<String>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let (url, counter) = (issuer.clone(), Arc::clone(&asked));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let token_endpoint = format!("{}/token", origin.lock().unwrap());
            let body = serde_json::json!({"issuer": url, "token_endpoint": token_endpoint});
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (issuer, asked)
}

#[tokio::test]
async fn an_issuer_that_moves_an_endpoint_is_asked_again_but_not_all_the_time() {
    let origin = Arc::new(Mutex::new("https://one.example".to_owned()));
    let (issuer, asked) = issuer(Arc::clone(&origin)).await;
    let egress = Egress::of_issuer(&issuer, LONG);
    let client = client();
    let permits = async |url: &'static str| {
        let permitted = egress.permits(&Uri::from_static(url), &client).await;
        permitted.is_ok()
    };
    let asked = || asked.load(Ordering::SeqCst);
    let a_minute_later = async || {
        time::pause();
        time::advance(Duration::from_secs(61)).await;
        time::resume();
    };

    assert!(permits("https://one.example/token").await);
    assert_eq!(asked(), 1);
    *origin.lock().unwrap() = "https://two.example".to_owned();
    for _ in 0..3 {
        assert!(!permits("https://two.example/token").await);
    }
    assert_eq!(asked(), 1);
    a_minute_later().await;
    assert!(permits("https://one.example/token").await);
    assert_eq!(asked(), 1);
    assert!(permits("https://two.example/token").await);
    assert_eq!(asked(), 2);
    assert!(!permits("https://one.example/token").await);
    assert!(!permits("https://elsewhere.example/").await);
    assert_eq!(asked(), 2);
    a_minute_later().await;
    assert!(!permits("https://elsewhere.example/").await);
    assert_eq!(asked(), 3);
    assert!(permits("https://two.example/token").await);
}
