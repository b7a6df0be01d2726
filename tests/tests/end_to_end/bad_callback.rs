//! Redirects that are not the answer to what was begun: refused, and the real
//! user's authorization still completes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, PATIENCE, Running, ScriptedServer};

use crate::support::{
    Begun, CODE, SECRET, access_token, begin, scripted_config, text, tokens, with,
};

// ---- pasted: `complete NAME URL` ------------------------------------------

/// Gives `complete` a redirect made from the pending authorization, insists
/// that it is refused, and that the real one then completes.
#[track_caller]
fn pasted(redirect: impl FnOnce(&Begun) -> String) -> Value {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let begun = begin(&cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    let outcome = cli
        .run(&["complete", "shop", &redirect(&begun), "--json"])
        .expect_code(5);
    let error = outcome.error();
    assert_eq!(text(&error, "kind"), "protocol_violation");
    assert!(
        server.requests_to("/token").is_empty(),
        "a token request was sent"
    );
    cli.run(&["complete", "shop", &begun.success()])
        .expect_code(0);
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
    error
}

/// Shows: RFC 6749 section 10.12.
#[test]
fn a_wrong_state_is_refused() {
    let error = pasted(|begun| begun.redirect(&[("code", CODE), ("state", "wrong")]));
    assert!(text(&error, "message").contains("state"), "{error}");
}

/// Shows: RFC 6749 section 10.12.
#[test]
fn a_missing_state_is_refused() {
    pasted(|begun| begun.redirect(&[("code", CODE)]));
}

#[test]
fn an_error_with_a_wrong_state_is_refused() {
    pasted(|begun| begun.redirect(&[("error", "access_denied"), ("state", "wrong")]));
}

#[test]
fn an_error_without_a_state_is_refused() {
    pasted(|begun| begun.redirect(&[("error", "access_denied")]));
}

#[test]
fn a_redirect_without_a_code_is_refused() {
    let error = pasted(|begun| begun.redirect(&[("state", &begun.state)]));
    assert!(text(&error, "message").contains("code"), "{error}");
}

#[test]
fn an_empty_code_is_refused() {
    pasted(|begun| begun.redirect(&[("code", ""), ("state", &begun.state)]));
}

#[test]
fn a_code_that_comes_twice_is_refused() {
    pasted(|begun| begun.redirect(&[("code", "x"), ("code", CODE), ("state", &begun.state)]));
}

#[test]
fn a_state_that_comes_twice_is_refused() {
    pasted(|begun| begun.redirect(&[("code", CODE), ("state", &begun.state), ("state", "x")]));
}

#[test]
fn a_long_redirect_is_refused() {
    // The longest argument that a Linux process takes is 128 KiB.
    let junk = "x".repeat(100 * 1024);
    pasted(|begun| begun.redirect(&[("code", &junk), ("state", "wrong")]));
}

#[test]
fn megabytes_of_junk_are_refused() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let begun = begin(&cli, "shop");
    let junk = "x".repeat(4 * 1024 * 1024);
    for input in [
        junk.clone(),
        begun.redirect(&[("code", CODE), ("state", &junk)]),
        begun.redirect(&[("code", &junk), ("state", &begun.state)]),
    ] {
        let outcome = cli.run_with_input(&["complete", "shop", "-", "--json"], input.as_bytes());
        assert_eq!(
            text(&outcome.expect_code(5).error(), "kind"),
            "protocol_violation"
        );
    }
    assert!(
        server.requests_to("/token").is_empty(),
        "a token request was sent"
    );
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.run(&["complete", "shop", &begun.success()])
        .expect_code(0);
}

#[test]
fn many_parameters_are_refused() {
    pasted(|begun| {
        let junk: Vec<String> = (0..8000).map(|number| format!("p{number}")).collect();
        let parameters: Vec<_> = junk.iter().map(|name| (name.as_str(), "x")).collect();
        begun.redirect(&parameters)
    });
}

#[test]
fn what_is_no_url_is_refused() {
    for junk in [
        "not a URL",
        "",
        "https://",
        "\u{1F980}",
        "javascript:alert(1)",
    ] {
        let server = ScriptedServer::start();
        let cli = Cli::new();
        cli.create("shop", &scripted_config(&server)).expect_code(0);
        let begun = begin(&cli, "shop");
        let outcome = cli.run(&["complete", "shop", junk, "--json"]);
        // Some of it is not even a way to type the command.
        assert!(matches!(outcome.code, Some(2 | 5)), "{junk}: {outcome:?}");
        server.answer("/token", Answer::json(200, &tokens(1, 3600)));
        cli.run(&["complete", "shop", &begun.success()])
            .expect_code(0);
    }
}

#[test]
fn a_redirect_that_is_used_again_is_refused_and_the_token_stays() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let begun = begin(&cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.run(&["complete", "shop", &begun.success()])
        .expect_code(0);
    let error = cli
        .run(&["complete", "shop", &begun.success(), "--json"])
        .expect_code(5)
        .error();
    assert_eq!(text(&error, "kind"), "protocol_violation");
    server.only_request_to("/token");
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(1));
}

#[test]
fn an_answer_to_an_earlier_beginning_still_completes() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    let first = begin(&cli, "shop");
    let second = begin(&cli, "shop");
    assert_ne!(first.state, second.state);
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    cli.run(&["complete", "shop", &first.success()])
        .expect_code(0);
}

#[test]
fn a_redirect_for_another_connection_is_refused() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &scripted_config(&server)).expect_code(0);
    cli.create("bank", &scripted_config(&server)).expect_code(0);
    let shop = begin(&cli, "shop");
    begin(&cli, "bank");
    cli.run(&["complete", "bank", &shop.success()])
        .expect_code(5);
    assert!(server.requests_to("/token").is_empty());
}

/// A server that says of itself that it names its issuer in every redirect
/// (RFC 9207).
fn with_issuer(server: &ScriptedServer) -> Value {
    let metadata = json!({
        "issuer": server.url(""),
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "response_types_supported": ["code"],
        "authorization_response_iss_parameter_supported": true,
    });
    server.answer(
        "/.well-known/openid-configuration",
        Answer::json(200, &metadata),
    );
    server.answer(
        "/.well-known/oauth-authorization-server",
        Answer::json(200, &metadata),
    );
    json!({
        "issuer": server.url(""),
        "client_id": "client",
        "client_secret": SECRET,
        "redirect_uri": "https://client.example/oauth2",
        "scope": "read",
    })
}

#[track_caller]
fn issuer_refused(issuer: Option<&str>) {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &with_issuer(&server)).expect_code(0);
    let begun = begin(&cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(1, 3600)));
    let mut parameters = vec![("code", CODE), ("state", begun.state.as_str())];
    parameters.extend(issuer.map(|issuer| ("iss", issuer)));
    let outcome = cli.run(&["complete", "shop", &begun.redirect(&parameters), "--json"]);
    let error = outcome.expect_code(5).error();
    assert_eq!(text(&error, "kind"), "protocol_violation");
    assert!(text(&error, "message").contains("issuer"), "{error}");
    assert!(server.requests_to("/token").is_empty());
    let real = server.url("");
    let parameters = [
        ("code", CODE),
        ("state", begun.state.as_str()),
        ("iss", real.as_str()),
    ];
    cli.run(&["complete", "shop", &begun.redirect(&parameters)])
        .expect_code(0);
}

/// Shows: RFC 9207.
#[test]
fn a_foreign_issuer_is_refused() {
    issuer_refused(Some("https://other.example"));
}

/// Shows: RFC 9207.
#[test]
fn a_missing_issuer_is_refused_where_the_server_says_that_it_names_it() {
    issuer_refused(None);
}

// ---- sent: the listener of `authorize` ------------------------------------

/// A user before the browser: the listener is open.
struct Waiting {
    server: ScriptedServer,
    cli: Cli,
    call: Running,
    begun: Begun,
}

/// What the listener answers: the head and the page.
struct Answered(String);

impl Answered {
    fn status(&self) -> u16 {
        let status = self
            .0
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no HTTP response: {}", self.0))
    }
}

impl Waiting {
    fn start() -> Self {
        let server = ScriptedServer::start();
        server.answer("/token", Answer::json(200, &tokens(1, 3600)));
        let cli = Cli::new();
        let fields = json!({"redirect_uri": null});
        let mut config = with(scripted_config(&server), fields);
        config
            .as_object_mut()
            .map(|fields| fields.remove("redirect_uri"));
        cli.create("shop", &config).expect_code(0);
        let mut call = cli.start(&["authorize", "shop", "--no-browser", "--json"]);
        let begun = Begun::from_line(&call.next_json());
        Self {
            server,
            cli,
            call,
            begun,
        }
    }

    fn connect(&self) -> TcpStream {
        let url = url::Url::parse(&self.begun.redirect_uri).expect("a URL");
        let address = url.socket_addrs(|| None).expect("an address")[0];
        let stream = TcpStream::connect(address).expect("the listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn host(&self) -> String {
        let url = url::Url::parse(&self.begun.redirect_uri).expect("a URL");
        format!(
            "{}:{}",
            url.host_str().expect("a host"),
            url.port().expect("a port")
        )
    }

    /// Sends bytes and returns what comes before the connection closes. A
    /// listener may close it before it has read everything.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for a redirect as a browser would.
    fn get(&self, redirect: &str) -> Answered {
        let url = url::Url::parse(redirect).expect("a URL");
        let target = &url[url::Position::BeforePath..];
        let host = self.host();
        Answered(
            self.send(
                format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
                    .as_bytes(),
            ),
        )
    }

    /// The real redirect comes and the authorization completes.
    #[track_caller]
    fn completes(mut self) {
        assert!(self.call.is_running(), "the call has given up");
        assert!(
            self.server.requests_to("/token").is_empty(),
            "a token request was sent"
        );
        assert_eq!(self.get(&self.begun.success()).status(), 200);
        self.call.finish().expect_code(0);
        assert_eq!(
            text(&self.cli.token("shop"), "access_token"),
            access_token(1)
        );
    }
}

/// Lets the listener receive a bad redirect, insists that it answers with an
/// error and goes on waiting.
#[track_caller]
fn sent(parameters: impl FnOnce(&Begun) -> String) {
    let waiting = Waiting::start();
    let answer = waiting.get(&parameters(&waiting.begun));
    assert!((400..500).contains(&answer.status()), "{}", answer.0);
    waiting.completes();
}

#[test]
fn a_listener_outlives_a_wrong_state() {
    sent(|begun| begun.redirect(&[("code", CODE), ("state", "wrong")]));
}

#[test]
fn a_listener_outlives_a_redirect_without_parameters() {
    sent(|begun| begun.redirect_uri.clone());
}

#[test]
fn a_listener_outlives_an_error_of_a_stranger() {
    sent(|begun| begun.redirect(&[("error", "access_denied"), ("state", "wrong")]));
}

#[test]
fn a_listener_outlives_a_duplicate_parameter() {
    sent(|begun| begun.redirect(&[("code", "x"), ("code", CODE), ("state", &begun.state)]));
}

#[test]
fn a_listener_outlives_a_redirect_without_a_code() {
    sent(|begun| begun.redirect(&[("state", &begun.state)]));
}

#[test]
fn a_listener_outlives_another_path() {
    sent(|begun| begun.success().replace("/oauth2?", "/other?"));
}

#[test]
fn a_listener_outlives_another_method() {
    let waiting = Waiting::start();
    let host = waiting.host();
    let answer = Answered(waiting.send(
        format!("DELETE /oauth2 HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes(),
    ));
    assert!((400..500).contains(&answer.status()), "{}", answer.0);
    waiting.completes();
}

/// Shows: RFC 8252.
#[test]
fn a_listener_refuses_another_host() {
    let waiting = Waiting::start();
    let url = url::Url::parse(&waiting.begun.success()).expect("a URL");
    let target = &url[url::Position::BeforePath..];
    let answer = Answered(
        waiting.send(
            format!("GET {target} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        ),
    );
    assert!((400..500).contains(&answer.status()), "{}", answer.0);
    waiting.completes();
}

#[test]
fn a_listener_outlives_megabytes_in_the_request_line() {
    let waiting = Waiting::start();
    let mut request = format!("GET /oauth2?code={CODE}&state=").into_bytes();
    request.resize(4 * 1024 * 1024, b'x');
    request.extend_from_slice(b" HTTP/1.1\r\n\r\n");
    waiting.send(&request);
    waiting.completes();
}

#[test]
fn a_listener_outlives_megabytes_of_headers() {
    let waiting = Waiting::start();
    let mut request = b"GET /oauth2 HTTP/1.1\r\n".to_vec();
    for number in 0..200_000 {
        request.extend_from_slice(format!("x-{number}: junk\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    waiting.send(&request);
    waiting.completes();
}

#[test]
fn a_listener_outlives_a_megabyte_in_the_body() {
    let waiting = Waiting::start();
    let (host, length) = (waiting.host(), 8 * 1024 * 1024);
    let mut request = format!(
        "POST /oauth2 HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\
         content-type: application/x-www-form-urlencoded\r\nconnection: close\r\n\r\nstate="
    )
    .into_bytes();
    request.resize(request.len() + length - "state=".len(), b'x');
    waiting.send(&request);
    waiting.completes();
}

#[test]
fn a_listener_outlives_what_is_not_http() {
    let waiting = Waiting::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0",
        b"GET\r\n\r\n",
    ] {
        let mut stream = waiting.connect();
        let _ = stream.write_all(garbage);
        // Nobody waits for the answer, as a port scanner would not.
    }
    waiting.completes();
}

#[test]
fn a_listener_outlives_connections_that_say_nothing() {
    let waiting = Waiting::start();
    let silent: Vec<_> = (0..100).map(|_| waiting.connect()).collect();
    let mut half = waiting.connect();
    half.write_all(b"GET /oauth2?code=").expect("sent");
    let answer = waiting.get(&waiting.begun.redirect(&[("code", "x"), ("state", "wrong")]));
    assert!((400..500).contains(&answer.status()), "{}", answer.0);
    waiting.completes();
    drop((silent, half));
}

#[test]
fn a_listener_repeats_nothing_that_it_was_sent() {
    let waiting = Waiting::start();
    let script = "<script>alert(1)</script>";
    let answer = waiting.get(&waiting.begun.redirect(&[
        ("error", script),
        ("error_description", script),
        ("state", script),
    ]));
    assert!(!answer.0.contains("<script"), "{}", answer.0);
    let denial = waiting.get(&waiting.begun.redirect(&[
        ("error", "access_denied"),
        ("error_description", script),
        ("state", &waiting.begun.state),
    ]));
    assert!(!denial.0.contains("<script"), "{}", denial.0);
    waiting.call.finish().expect_code(5);
}

#[test]
fn a_listener_that_nobody_comes_to_gives_up() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    let mut config = scripted_config(&server);
    config
        .as_object_mut()
        .map(|fields| fields.remove("redirect_uri"));
    cli.create("shop", &config).expect_code(0);
    let arguments = [
        "authorize",
        "shop",
        "--no-browser",
        "--json",
        "--timeout",
        "1",
    ];
    let outcome = cli.run(&arguments);
    assert!(matches!(outcome.code, Some(4 | 6)), "{outcome:?}");
}

#[test]
fn a_listener_closes_with_the_call() {
    let waiting = Waiting::start();
    let address = waiting.host();
    waiting.completes();
    assert!(
        TcpStream::connect(address).is_err(),
        "somebody still listens"
    );
}
