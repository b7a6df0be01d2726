//! The listener over real sockets.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Longer than any test takes: what waits for it waits for an event.
const LONG: Duration = Duration::from_secs(60);

async fn listener() -> (LoopbackListener, u16) {
    let listener = LoopbackListener::bind("crm", None).await.unwrap();
    let port = port_of(&listener);
    (listener, port)
}

fn port_of(listener: &LoopbackListener) -> u16 {
    let uri: Uri = listener.redirect_uri().parse().unwrap();
    uri.port_u16().unwrap()
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap()
}

/// What the server answers, to the end of the connection.
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: body.to_owned(),
    }
}

async fn exchange(port: u16, request: &str) -> Answer {
    let mut stream = connect(port).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut stream).await
}

fn get(port: u16, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")
}

fn post(port: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /oauth2 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends a redirect, answers it, and returns what the browser sees.
async fn land(outcome: Outcome) -> Answer {
    land_on("crm", outcome).await
}

async fn land_on(connection: &str, outcome: Outcome) -> Answer {
    let mut listener = LoopbackListener::bind(connection, None).await.unwrap();
    let request = get(port_of(&listener), "/oauth2?code=c&state=s");
    let (answer, ()) = tokio::join!(exchange(port_of(&listener), &request), async {
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        arrival.respond(outcome).await;
    });
    answer
}

/// Sends a redirect and checks that it still gets through.
async fn the_real_one_arrives(listener: &mut LoopbackListener) {
    let port = port_of(listener);
    let request = get(port, "/oauth2?code=real");
    let (answer, ()) = tokio::join!(exchange(port, &request), async {
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        let expected = format!("http://127.0.0.1:{port}/oauth2?code=real");
        assert_eq!(arrival.redirect(), Redirect::Url(expected));
        arrival.respond(Outcome::Authorized).await;
    });
    assert_eq!(answer.status, 200);
}

async fn no_arrival(listener: &mut LoopbackListener) {
    assert!(listener.next(Duration::ZERO).await.unwrap().is_none());
}

/// Shows: RFC 8252.
#[tokio::test]
async fn the_default_is_the_ipv4_loopback_address_and_a_free_port() {
    let (listener, port) = listener().await;
    assert_ne!(port, 0);
    assert_eq!(
        listener.redirect_uri(),
        format!("http://127.0.0.1:{port}/oauth2")
    );
}

#[tokio::test]
async fn a_configured_uri_is_listened_on_as_it_is() {
    let port = port_of(&LoopbackListener::bind("crm", None).await.unwrap());
    let uri = format!("http://127.0.0.1:{port}/a/b?tenant=x");
    let mut listener = LoopbackListener::bind("crm", Some(&uri)).await.unwrap();
    assert_eq!(listener.redirect_uri(), uri);
    let request = get(port, "/a/b?tenant=x&code=c");
    let (_, ()) = tokio::join!(exchange(port, &request), async {
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        assert_eq!(arrival.redirect(), Redirect::Url(format!("{uri}&code=c")));
        arrival.respond(Outcome::Authorized).await;
    });
}

#[tokio::test]
async fn a_uri_that_names_a_port_is_sent_as_it_is_written() {
    for (before, after) in [
        ("http://127.0.0.1:", ""),
        ("http://127.0.0.1:", "?tenant=x"),
        ("http://127.0.0.1:", "/"),
        ("http://127.0.0.1:0", "/cb"),
        ("http://LocalHost:", "/cb"),
        ("HTTP://127.0.0.1:", "/cb"),
    ] {
        let port = port_of(&LoopbackListener::bind("crm", None).await.unwrap());
        let uri = format!("{before}{port}{after}");
        let mut listener = LoopbackListener::bind("crm", Some(&uri)).await.unwrap();
        assert_eq!(listener.redirect_uri(), uri);
        let parsed: Uri = uri.parse().unwrap();
        let request = format!(
            "GET {}?code=c HTTP/1.1\r\nHost: {}:{port}\r\n\r\n",
            parsed.path(),
            parsed.host().unwrap().to_ascii_lowercase(),
        );
        let (_, ()) = tokio::join!(exchange(port, &request), async {
            let mut arrival = listener.next(LONG).await.unwrap().unwrap();
            let address = uri.split('?').next().unwrap();
            let arrived = Redirect::Url(format!("{address}?code=c"));
            assert_eq!(arrival.redirect(), arrived);
            arrival.respond(Outcome::Authorized).await;
        });
    }
}

#[tokio::test]
async fn a_uri_that_names_no_port_gets_one_and_nothing_else() {
    for (uri, before, after) in [
        ("http://127.0.0.1", "http://127.0.0.1:", ""),
        ("http://127.0.0.1:/cb", "http://127.0.0.1:", "/cb"),
        ("http://127.0.0.1:0/cb", "http://127.0.0.1:", "/cb"),
        ("http://LocalHost?a=b", "http://LocalHost:", "?a=b"),
    ] {
        let listener = LoopbackListener::bind("crm", Some(uri)).await.unwrap();
        let port = port_of(&listener);
        assert_ne!(port, 0);
        assert_eq!(listener.redirect_uri(), format!("{before}{port}{after}"));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_unavailable() {
    let (_taken, port) = listener().await;
    let uri = format!("http://127.0.0.1:{port}/oauth2");
    let bound = LoopbackListener::bind("crm", Some(&uri)).await;
    assert!(matches!(bound, Err(UserAgentError::Unavailable(_))));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn any_address_of_the_loopback_interface_is_listened_on() {
    let listener = LoopbackListener::bind("crm", Some("http://127.0.0.2/cb"))
        .await
        .expect("a listener");
    let redirect_uri = listener.redirect_uri();
    let authority = redirect_uri.strip_prefix("http://").expect("http");
    let authority = authority.strip_suffix("/cb").expect("the path");
    assert!(authority.starts_with("127.0.0.2:"), "{redirect_uri}");
    assert!(TcpStream::connect(authority).await.is_ok());
}

#[tokio::test]
async fn localhost_is_listened_on_at_both_addresses() {
    let mut listener = LoopbackListener::bind("crm", Some("http://localhost/cb"))
        .await
        .unwrap();
    let port = port_of(&listener);
    assert_eq!(
        listener.redirect_uri(),
        format!("http://localhost:{port}/cb")
    );
    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let Ok(mut stream) = TcpStream::connect((address, port)).await else {
            assert!(address.is_ipv6(), "not listening on {address}");
            continue; // a machine without IPv6
        };
        let request = format!("GET /cb?code=c HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        let expected = format!("http://localhost:{port}/cb?code=c");
        assert_eq!(arrival.redirect(), Redirect::Url(expected));
        arrival.respond(Outcome::Authorized).await;
    }
}

#[tokio::test]
async fn a_uri_that_is_not_of_the_loopback_interface_cannot_be_listened_on() {
    for uri in [
        "https://127.0.0.1:8443/cb",
        "http://example.com/cb",
        "http://127.0.0.1.example.com/cb",
        "http://localhost@example.com/cb",
        "http://user@127.0.0.1/cb",
        "http://0.0.0.0:8080/cb",
        "http://192.168.0.1/cb",
        "http://127.0.0.1/cb#fragment",
        "http://127.0.0.1:99999/cb",
        "com.example.app:/cb",
        "",
    ] {
        match LoopbackListener::bind("crm", Some(uri)).await {
            Err(UserAgentError::Unavailable(text)) => assert!(text.contains("complete"), "{text}"),
            Err(other) => panic!("{uri}: {other:?}"),
            Ok(_) => panic!("{uri} is listened on"),
        }
    }
}

/// Shows: OAuth 2.0 Form Post Response Mode.
#[tokio::test]
async fn a_post_of_a_form_arrives_as_its_body() {
    let (mut listener, port) = listener().await;
    let request = post(
        port,
        "application/x-www-form-urlencoded; charset=utf-8",
        "code=c&state=s",
    );
    let (answer, ()) = tokio::join!(exchange(port, &request), async {
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        assert_eq!(
            arrival.redirect(),
            Redirect::FormPost("code=c&state=s".to_owned())
        );
        arrival.respond(Outcome::Authorized).await;
    });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_post_of_something_else_is_turned_away() {
    let (mut listener, port) = listener().await;
    let answer = exchange(port, &post(port, "application/json", "{}")).await;
    assert_eq!(answer.status, 415);
    no_arrival(&mut listener).await;
}

#[tokio::test]
async fn a_form_that_is_too_long_is_turned_away() {
    let (mut listener, port) = listener().await;
    let body = "a".repeat(FORM_LIMIT + 1);
    let answer = exchange(
        port,
        &post(port, "application/x-www-form-urlencoded", &body),
    )
    .await;
    assert_eq!(answer.status, 413);
    no_arrival(&mut listener).await;
    the_real_one_arrives(&mut listener).await;
}

#[tokio::test]
async fn other_methods_are_turned_away() {
    let (mut listener, port) = listener().await;
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"] {
        let request = get(port, "/oauth2?code=c").replace("GET", method);
        assert_eq!(exchange(port, &request).await.status, 405, "{method}");
    }
    no_arrival(&mut listener).await;
}

#[tokio::test]
async fn other_paths_are_turned_away() {
    let (mut listener, port) = listener().await;
    for path in [
        "/",
        "/favicon.ico",
        "/oauth2/",
        "/oauth2x",
        "/OAUTH2",
        "/x/../oauth2",
        "//oauth2",
    ] {
        let request = get(port, &format!("{path}?code=c"));
        assert_eq!(exchange(port, &request).await.status, 404, "{path}");
    }
    no_arrival(&mut listener).await;
}

#[tokio::test]
async fn requests_for_another_host_are_turned_away() {
    let (mut listener, port) = listener().await;
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    for hosts in [
        "Host: attacker.example\r\n".to_owned(),
        format!("Host: attacker.example:{port}\r\n"),
        format!("Host: localhost:{port}\r\n"),
        "Host: 127.0.0.1\r\n".to_owned(),
        format!("{own}Host: attacker.example\r\n"),
        String::new(),
    ] {
        let request = get(port, "/oauth2?code=c").replace(&own, &hosts);
        assert_eq!(exchange(port, &request).await.status, 421, "{hosts}");
    }
    let absolute = get(port, "http://attacker.example/oauth2?code=c");
    assert_eq!(exchange(port, &absolute).await.status, 421);
    no_arrival(&mut listener).await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_turned_away() {
    let (mut listener, port) = listener().await;
    let mut stream = connect(port).await;
    let junk = "a".repeat(2 << 20);
    // The server stops reading in the middle of it.
    let _ = stream
        .write_all(get(port, &format!("/oauth2?code={junk}")).as_bytes())
        .await;
    drop(stream);
    no_arrival(&mut listener).await;
    the_real_one_arrives(&mut listener).await;
}

#[tokio::test]
async fn garbage_is_survived() {
    let (mut listener, port) = listener().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET",
        b"\r\n\r\n\r\n",
    ] {
        let mut stream = connect(port).await;
        stream.write_all(garbage).await.unwrap();
    }
    the_real_one_arrives(&mut listener).await;
}

#[tokio::test]
async fn slow_clients_do_not_keep_the_real_one_out() {
    let (mut listener, port) = listener().await;
    let mut slow = Vec::new();
    for _ in 0..2 * CONNECTION_LIMIT {
        let mut stream = connect(port).await;
        stream.write_all(b"GET /oauth2?code=").await.unwrap();
        slow.push(stream);
    }
    the_real_one_arrives(&mut listener).await;
}

#[tokio::test]
async fn the_oldest_slow_client_has_to_go_when_there_are_too_many() {
    let (_listener, port) = listener().await;
    let mut first = connect(port).await;
    first.write_all(b"GET ").await.unwrap();
    let mut others = Vec::new();
    for _ in 0..CONNECTION_LIMIT {
        others.push(connect(port).await);
    }
    let mut rest = Vec::new();
    // Closed, with or without a reset.
    let _ = first.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_cut_off() {
    let (_listener, port) = listener().await;
    let mut stream = connect(port).await;
    stream
        .write_all(b"GET /oauth2?code=c HTTP/1.1\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn repeated_requests_all_arrive_in_turn() {
    let (mut listener, port) = listener().await;
    let mut browsers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        browsers.spawn(async move { exchange(port, &get(port, "/oauth2?code=c")).await.status });
    }
    for _ in 0..4 {
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        arrival
            .respond(Outcome::Refused("used already".to_owned()))
            .await;
    }
    let mut arrival = listener.next(LONG).await.unwrap().unwrap();
    arrival.respond(Outcome::Authorized).await;
    let mut statuses = browsers.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400, 400, 400]);
}

#[tokio::test(start_paused = true)]
async fn nothing_has_come_when_the_wait_is_over() {
    let (mut listener, _) = listener().await;
    assert!(listener.next(LONG).await.unwrap().is_none());
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let (mut listener, port) = listener().await;
    assert!(
        time::timeout(Duration::ZERO, listener.next(LONG))
            .await
            .is_err()
    );
    assert_ne!(port, 0);
    the_real_one_arrives(&mut listener).await;
}

#[tokio::test]
async fn nobody_listens_any_more_after_the_drop() {
    let (listener, port) = listener().await;
    drop(listener);
    // The task ends as soon as the runtime gets to it.
    let refused = async {
        while !TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(LONG, refused).await.unwrap();
}

#[tokio::test]
async fn an_arrival_dropped_without_a_word_is_answered() {
    let (mut listener, port) = listener().await;
    let request = get(port, "/oauth2?code=c");
    let (answer, ()) = tokio::join!(exchange(port, &request), async {
        drop(listener.next(LONG).await.unwrap().unwrap());
    });
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("no longer waiting"), "{}", answer.body);
}

#[tokio::test]
async fn a_redirect_that_nobody_takes_is_answered_when_the_listener_closes() {
    let (mut listener, port) = listener().await;
    let mut stream = connect(port).await;
    stream
        .write_all(get(port, "/oauth2?code=c").as_bytes())
        .await
        .unwrap();
    let arrival = listener.next(LONG).await.unwrap().unwrap();
    drop(listener);
    drop(arrival);
    assert_eq!(read_answer(&mut stream).await.status, 400);
}

#[tokio::test]
async fn the_page_is_there_when_respond_returns() {
    let (mut listener, port) = listener().await;
    let mut stream = connect(port).await;
    stream
        .write_all(get(port, "/oauth2?code=c").as_bytes())
        .await
        .unwrap();
    let mut arrival = listener.next(LONG).await.unwrap().unwrap();
    arrival.respond(Outcome::Authorized).await;
    let mut page = [0; 12];
    assert_eq!(stream.try_read(&mut page).unwrap(), 12);
    assert_eq!(&page, b"HTTP/1.1 200");
}

#[tokio::test]
async fn the_page_says_what_happened_and_for_which_connection() {
    let failed = Outcome::Failed("the server refused".to_owned());
    let refused = Outcome::Refused("the state is unknown".to_owned());
    for (outcome, status, title, text) in [
        (
            Outcome::Authorized,
            200,
            "<h1>Authorized</h1>",
            "is authorized",
        ),
        (failed, 400, "<h1>Not authorized</h1>", "the server refused"),
        (
            refused,
            400,
            "<h1>Not accepted</h1>",
            "the state is unknown",
        ),
    ] {
        let answer = land(outcome).await;
        assert_eq!(answer.status, status);
        for expected in [
            title,
            text,
            "<strong>crm</strong>",
            "You can close this window.",
            "<html lang=\"en\">",
            "<main",
            "role=\"status\"",
        ] {
            assert!(
                answer.body.contains(expected),
                "{expected} in {}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn the_page_shows_nothing_unescaped() {
    let evil = "<script>alert('x')</script>&\"";
    let answer = land_on(evil, Outcome::Failed(evil.to_owned())).await;
    assert!(!answer.body.contains("<script"), "{}", answer.body);
    assert!(!answer.body.contains("alert('x')"), "{}", answer.body);
    assert!(
        answer
            .body
            .contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;")
    );
}

#[tokio::test]
async fn the_page_shows_nothing_of_the_request() {
    let (mut listener, port) = listener().await;
    let request = get(port, "/oauth2?code=secret-code&state=secret-state");
    let (answer, ()) = tokio::join!(exchange(port, &request), async {
        let mut arrival = listener.next(LONG).await.unwrap().unwrap();
        arrival.respond(Outcome::Authorized).await;
    });
    assert!(!answer.body.contains("secret-"), "{}", answer.body);
}

#[tokio::test]
async fn the_page_may_load_nothing_and_leaves_nothing() {
    let answer = land(Outcome::Authorized).await;
    let header = |name: &str| answer.headers.get(name).map(String::as_str);
    assert_eq!(header("cache-control"), Some("no-store"));
    assert_eq!(header("referrer-policy"), Some("no-referrer"));
    assert_eq!(header("x-content-type-options"), Some("nosniff"));
    assert_eq!(header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header("set-cookie"), None);
    let policy = header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(!answer.body.contains("src="), "{}", answer.body);
    assert!(!answer.body.contains("href="), "{}", answer.body);
    assert!(!answer.body.contains("url("), "{}", answer.body);
}

#[tokio::test]
async fn the_policy_allows_the_pages_own_style_and_no_other() {
    use base64::Engine;
    use sha2::{Digest, Sha256};

    let answer = land(Outcome::Authorized).await;
    let (_, rest) = answer.body.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style));
    let policy = &answer.headers["content-security-policy"];
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}';")),
        "{policy}"
    );
    assert!(!answer.body.contains("style="), "{}", answer.body);
}
