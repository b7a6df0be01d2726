//! The command line as its users meet it: what it prints, where, and with which
//! exit code. A small server on loopback stands for the authorization server
//! and the resource.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

/// The command line with a directory of its own.
struct Cli {
    directory: TempDir,
}

impl Cli {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenwell"));
        command
            .args(arguments)
            .env("TOKENWELL_DIR", self.directory.path())
            .env_remove("TOKENWELL_PASSWORD")
            .env_remove("TOKENWELL_STORE")
            .env_remove("TOKENWELL_AUDIT")
            .env_remove("TOKENWELL_TRANSFER_PASSWORD")
            // The keyring of whoever runs the tests is none of theirs.
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        Ran::from(child.wait_with_output().unwrap())
    }

    /// Writes a config past `create`.
    fn config(&self, name: &str, config: &Value) {
        std::fs::write(self.file(&format!("{name}.json")), config.to_string()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    #[track_caller]
    fn failed_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    #[track_caller]
    fn error(&self) -> Value {
        let value: Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        value["error"].clone()
    }
}

/// One request that the server received.
#[derive(Clone, Debug)]
struct Received {
    line: String,
    authorization: Option<String>,
    body: String,
}

/// An authorization server and a resource, as far as these tests need them:
/// `/token` gives out `token-1`, `token-2`, …, and `/slow` the same after a
/// second; `/refuse` refuses the client, `/revoked` the grant; `/api` answers with the credentials it
/// got; `/register` registers a client; everything else is not found.
struct Server {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                thread::spawn(move || serve(stream, &log));
            }
        });
        Self { address, received }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn received(&self, path: &str) -> Vec<Received> {
        let all = self.received.lock().unwrap();
        all.iter()
            .filter(|request| request.line.split(' ').nth(1) == Some(path))
            .cloned()
            .collect()
    }

    fn client_credentials(&self) -> Value {
        json!({
            "grant_type": "client_credentials",
            "token_endpoint": self.url("/token"),
            "client_id": "job",
            "client_secret": "very-secret",
        })
    }

    fn authorization_code(&self) -> Value {
        json!({
            "authorization_endpoint": self.url("/authorize"),
            "token_endpoint": self.url("/token"),
            "client_id": "app",
        })
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Received>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut authorization = None;
        let mut length = 0;
        let mut chunked = false;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap(),
                "transfer-encoding" => chunked = value == "chunked",
                _ => {}
            }
        }
        let body = if chunked {
            read_chunks(&mut reader)
        } else {
            read_exactly(&mut reader, length)
        };
        let request = Received {
            line: line.trim_end().to_owned(),
            authorization,
            body: String::from_utf8(body).unwrap(),
        };
        let path = request
            .line
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let credentials = request.authorization.clone().unwrap_or_default();
        let count = {
            let mut log = log.lock().unwrap();
            log.push(request);
            log.iter()
                .filter(|seen| seen.line.contains(" /token ") || seen.line.contains(" /slow "))
                .count()
        };
        if path == "/slow" {
            thread::sleep(Duration::from_secs(1));
        }
        let (status, kind, body) = match path.as_str() {
            "/.well-known/oauth-authorization-server" => {
                let base = format!("http://{}", stream.local_addr().unwrap());
                let metadata = json!({
                    "issuer": base,
                    "authorization_endpoint": format!("{base}/authorize"),
                    "token_endpoint": format!("{base}/token"),
                    "registration_endpoint": format!("{base}/register"),
                    "response_types_supported": ["code"],
                });
                ("200 OK", "application/json", metadata.to_string())
            }
            "/register" => {
                let client = json!({"client_id": "registered"});
                ("201 Created", "application/json", client.to_string())
            }
            "/token" | "/slow" => {
                let token = json!({"access_token": format!("token-{count}"), "token_type": "bearer", "expires_in": 3600, "scope": "a b"});
                ("200 OK", "application/json", token.to_string())
            }
            "/refuse" => {
                let error =
                    json!({"error": "invalid_client", "error_description": "no such client"});
                ("401 Unauthorized", "application/json", error.to_string())
            }
            "/revoked" => {
                let error = json!({"error": "invalid_grant"});
                ("400 Bad Request", "application/json", error.to_string())
            }
            "/api" => ("200 OK", "text/plain", credentials),
            _ => ("404 Not Found", "text/plain", "nothing here".to_owned()),
        };
        let mut stream = &stream;
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

fn read_exactly(reader: &mut impl BufRead, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    bytes
}

/// A body in chunks (RFC 9112 section 7.1), without trailers.
fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let length = usize::from_str_radix(size.trim(), 16).unwrap();
        body.extend(read_exactly(reader, length));
        read_exactly(reader, 2);
        if length == 0 {
            return body;
        }
    }
}

/// What a browser does with a redirect.
fn visit(url: &str) -> String {
    let url = Url::parse(url).unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&host).unwrap();
    let path = &url[url::Position::BeforePath..];
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn parameter(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(other, _)| other == name);
    found.map(|(_, value)| value.into_owned()).unwrap()
}

fn callback(authorization_url: &str, code: &str) -> String {
    let url = Url::parse(authorization_url).unwrap();
    let mut callback = Url::parse(&parameter(&url, "redirect_uri")).unwrap();
    callback
        .query_pairs_mut()
        .append_pair("code", code)
        .append_pair("state", &parameter(&url, "state"));
    callback.into()
}

#[test]
fn create_tells_every_problem_at_once_and_writes_nothing() {
    let cli = Cli::new();
    let config =
        json!({"cient_id": "x", "timeout": "soon", "token_endpoint": "http://far.example/token"});
    let ran = cli
        .run_with_input(
            &["create", "shop", "--config", "-", "--json"],
            &config.to_string(),
        )
        .failed_with(3);
    let error = ran.error();
    assert_eq!(error["kind"], "not_configured");
    let fields: Vec<&str> = error["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["field"].as_str().unwrap())
        .collect();
    for field in [
        "cient_id",
        "timeout",
        "client_id",
        "token_endpoint",
        "authorization_endpoint",
    ] {
        assert!(fields.contains(&field), "{field} is not among {fields:?}");
    }
    assert!(error["problems"][0]["mend"].is_string());
    assert!(!cli.file("shop.json").exists());
}

#[test]
fn create_says_what_to_do_next() {
    let cli = Cli::new();
    let created = cli
        .run(&[
            "create",
            "shop",
            "--issuer",
            "https://as.example",
            "--client-id",
            "abc",
            "--json",
        ])
        .succeeded();
    assert_eq!(created.json()["next"], "tokenwell authorize shop");

    let created = cli
        .run_with_input(
            &[
                "create",
                "job",
                "--grant-type",
                "client_credentials",
                "--token-endpoint",
                "https://as.example/token",
                "--client-id",
                "abc",
                "--client-secret",
                "-",
            ],
            "very-secret\n",
        )
        .succeeded();
    assert!(
        created.stdout.contains("Next: tokenwell token job"),
        "{created:?}"
    );
    assert!(!created.stdout.contains("very-secret"), "{created:?}");
}

#[test]
fn create_does_not_replace_a_config_unless_forced() {
    let cli = Cli::new();
    let create = [
        "create",
        "shop",
        "--issuer",
        "https://as.example",
        "--client-id",
        "first",
    ];
    cli.run(&create).succeeded();
    cli.run(&[
        "create",
        "shop",
        "--issuer",
        "https://as.example",
        "--client-id",
        "second",
    ])
    .failed_with(2);
    assert_eq!(
        cli.run(&["show", "shop", "--json"]).succeeded().json()["client_id"],
        "first"
    );
    cli.run(&[
        "create",
        "shop",
        "--issuer",
        "https://as.example",
        "--client-id",
        "second",
        "--force",
    ])
    .succeeded();
    assert_eq!(
        cli.run(&["show", "shop", "--json"]).succeeded().json()["client_id"],
        "second"
    );
}

#[test]
fn show_hides_the_secret() {
    let cli = Cli::new();
    cli.config("job", &Server::start().client_credentials());
    for arguments in [&["show", "job"][..], &["show", "job", "--json"]] {
        let shown = cli.run(arguments).succeeded();
        assert!(!shown.stdout.contains("very-secret"), "{shown:?}");
        assert_eq!(shown.json()["client_secret"], "***");
    }
}

#[test]
fn check_lists_problems_and_exits_with_3_where_the_config_cannot_work() {
    let cli = Cli::new();
    cli.config("shop", &json!({"issuer": "https://as.example"}));
    let checked = cli.run(&["check", "shop", "--json"]).failed_with(3).json();
    assert_eq!(checked["ok"], false);
    assert_eq!(checked["problems"][0]["field"], "client_id");

    let checked = cli
        .run(&["check", "shop", "--json", "--set", "client_id=4711"])
        .succeeded()
        .json();
    assert_eq!(checked["ok"], true);
}

#[test]
fn an_unknown_connection_is_exit_code_3() {
    let cli = Cli::new();
    for command in [
        "show",
        "check",
        "status",
        "token",
        "refresh",
        "history",
        "callback-url",
    ] {
        let error = cli
            .run(&[command, "nothing", "--json"])
            .failed_with(3)
            .error();
        assert_eq!(error["kind"], "not_configured", "{command}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_json_where_asked_for() {
    let cli = Cli::new();
    for arguments in [
        &["token"][..],
        &["token", "../x"],
        &["nonsense"],
        &["create", "a", "--tmeout", "1"],
    ] {
        cli.run(arguments).failed_with(2);
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        assert_eq!(cli.run(&with_json).failed_with(2).error()["kind"], "usage");
    }
}

#[test]
fn token_prints_nothing_but_the_token() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    // Where the key is that has just been made is said beside it.
    let first = cli.run(&["token", "job"]).succeeded();
    assert_eq!(first.stdout, "token-1\n");
    assert!(first.stderr.contains("tokenwell.key"), "{}", first.stderr);
    let next = cli.run(&["token", "job"]).succeeded();
    assert_eq!(
        (next.stdout.as_str(), next.stderr.as_str()),
        ("token-1\n", "")
    );
}

#[test]
fn token_takes_each_of_its_forms_from_one_stored_token() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    assert_eq!(
        cli.run(&["token", "job", "--header"]).succeeded().stdout,
        "Authorization: Bearer token-1\n"
    );
    let token = cli.run(&["token", "job", "--json"]).succeeded().json();
    assert_eq!(token["access_token"], "token-1");
    assert_eq!(token["scope"], "a b");
    assert!(token["expires_at"].is_u64(), "{token}");
    assert!(token["refreshable"].is_boolean(), "{token}");
    let response = cli.run(&["token", "job", "--response"]).succeeded().json();
    assert_eq!(response["expires_in"], 3600);
    assert_eq!(server.received("/token").len(), 1);
}

#[test]
fn a_rejected_token_is_taken_from_standard_input_and_replaced() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    let renewed = cli
        .run_with_input(&["token", "job", "--rejected", "-"], "token-1\n")
        .succeeded();
    assert_eq!(renewed.stdout, "token-2\n");
    let again = cli
        .run_with_input(&["token", "job", "--rejected", "-"], "token-1\n")
        .succeeded();
    assert_eq!(again.stdout, "token-2\n", "it has been replaced already");
}

#[test]
fn status_tells_the_state_before_and_after_the_first_token() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    cli.config("job", &server.client_credentials());
    cli.config("lost", &json!({"issuer": "https://as.example"}));
    cli.run(&["token", "job"]).succeeded();

    let all = cli.run(&["status", "--json"]).succeeded().json();
    let states: Vec<(&str, &str)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|status| {
            (
                status["name"].as_str().unwrap(),
                status["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [
            ("app", "not_authorized"),
            ("job", "authorized"),
            ("lost", "not_configured")
        ]
    );
    let one = cli.run(&["status", "job"]).succeeded();
    assert!(
        one.stdout.starts_with("job: authorized\n  expires "),
        "{one:?}"
    );
    let next = cli.run(&["status", "app"]).succeeded();
    assert!(next.stdout.contains("tokenwell authorize app"), "{next:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_watching_as_it_is_meant_to_end() {
    let cli = Cli::new();
    cli.config("app", &json!({"issuer": "https://as.example"}));
    let mut watching = cli.command(&["status", "--watch"]).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    // What it prints, it prints once it can be interrupted.
    assert!(lines.next().unwrap().unwrap().contains("app"));
    let sent = Command::new("kill")
        .args(["-INT", &watching.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}

#[test]
fn list_shows_every_connection_even_beside_a_broken_one() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    std::fs::write(cli.file("broken.json"), "{").unwrap();
    let rows = cli.run(&["list", "--json"]).succeeded().json();
    assert_eq!(rows[0]["name"], "broken");
    assert_eq!(rows[0]["error"]["kind"], "not_configured");
    assert_eq!(rows[1]["name"], "job");
    assert_eq!(rows[1]["server"], server.address);
}

#[test]
fn the_tokens_of_a_profile_are_kept_apart() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.config("job.dev", &json!({"client_id": "job-dev"}));
    assert_eq!(cli.run(&["token", "job"]).succeeded().stdout, "token-1\n");
    assert_eq!(
        cli.run(&["--profile", "dev", "token", "job"])
            .succeeded()
            .stdout,
        "token-2\n"
    );
    assert_eq!(cli.run(&["token", "job"]).succeeded().stdout, "token-1\n");
    assert!(cli.file("job.dev.tokens").exists());
    cli.run(&["--profile", "dve", "token", "job"])
        .failed_with(3);
}

#[test]
fn request_sends_the_token_and_prints_the_body() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    let url = server.url("/api");
    assert_eq!(
        cli.run(&["request", "job", &url]).succeeded().stdout,
        "Bearer token-1"
    );

    let whole = cli.run(&["request", "job", "-i", &url]).succeeded().stdout;
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n"), "{whole}");
    cli.run(&["request", "job", "-d", "a=b", &url]).succeeded();
    let posted = server.received("/api").pop().unwrap();
    assert_eq!(
        (posted.line.as_str(), posted.body.as_str()),
        ("POST /api HTTP/1.1", "a=b")
    );
}

#[test]
fn any_answer_is_a_success_unless_fail_is_given() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    let url = server.url("/missing");
    assert_eq!(
        cli.run(&["request", "job", &url]).succeeded().stdout,
        "nothing here"
    );
    let failed = cli
        .run(&["request", "job", "--fail", &url, "--json"])
        .failed_with(5);
    assert_eq!(failed.json()["status"], 404);
    assert_eq!(failed.error()["kind"], "http_status");
}

#[test]
fn a_token_is_not_sent_in_the_clear_to_another_machine() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    let ran = cli
        .run(&["request", "job", "http://192.0.2.1/", "--json"])
        .failed_with(8);
    assert_eq!(ran.error()["kind"], "forbidden");
    assert_eq!(ran.error()["mend"], "Write https:// in place of http://.");
}

#[test]
fn a_refusal_is_exit_code_5_with_the_servers_words() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    let endpoint = format!("token_endpoint={}", server.url("/refuse"));
    let error = cli
        .run(&["token", "job", "--json", "--set", &endpoint])
        .failed_with(5)
        .error();
    assert_eq!(error["kind"], "refused");
    assert_eq!(error["code"], "invalid_client");
    assert_eq!(error["description"], "no such client");
    assert_eq!(error["http_status"], 401);
    assert!(
        error["mend"].as_str().unwrap().contains("client_secret"),
        "{error}"
    );
}

#[test]
fn a_server_that_is_not_there_is_exit_code_6() {
    let cli = Cli::new();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = json!({
        "grant_type": "client_credentials",
        "token_endpoint": format!("http://{free}/token"),
        "client_id": "job",
        "client_secret": "very-secret",
    });
    cli.config("job", &config);
    assert_eq!(
        cli.run(&["token", "job", "--json"]).failed_with(6).error()["kind"],
        "unavailable"
    );
}

#[test]
fn damaged_tokens_are_exit_code_7_and_are_left_as_they_are() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    std::fs::write(cli.file("job.tokens"), "damaged").unwrap();
    assert_eq!(
        cli.run(&["token", "job", "--json"]).failed_with(7).error()["kind"],
        "storage"
    );
    assert_eq!(
        std::fs::read_to_string(cli.file("job.tokens")).unwrap(),
        "damaged"
    );
}

#[test]
fn a_connection_that_needs_its_user_is_exit_code_4() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let error = cli.run(&["token", "app", "--json"]).failed_with(4).error();
    assert_eq!(error["kind"], "not_authorized");
    assert_eq!(error["mend"], "Run `tokenwell authorize app`.");
}

#[test]
fn refresh_and_clear_tell_what_they_did_and_history_remembers() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    let refreshed = cli.run(&["refresh", "job"]).succeeded();
    assert!(!refreshed.stdout.contains("token-2"), "{refreshed:?}");
    assert_eq!(cli.run(&["token", "job"]).succeeded().stdout, "token-2\n");
    let events = cli.run(&["history", "job", "--json"]).succeeded().json();
    let kinds: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    assert!(kinds.contains(&"renewed"), "{kinds:?}");

    cli.run(&["clear", "job"]).succeeded();
    assert_eq!(
        cli.run(&["status", "job", "--json"]).succeeded().json()["state"],
        "not_authorized"
    );
    assert!(cli.file("job.json").exists());
}

#[test]
fn delete_removes_config_profiles_and_tokens_when_told_to() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.config("job.dev", &json!({}));
    cli.run(&["token", "job"]).succeeded();
    cli.run(&["--profile", "dev", "token", "job"]).succeeded();

    cli.run(&["delete", "job"]).failed_with(2);
    assert!(
        cli.file("job.json").exists(),
        "without a terminal to ask on, --yes is needed"
    );
    cli.run(&["delete", "job", "--yes"]).succeeded();
    for file in ["job.json", "job.tokens", "job.dev.json", "job.dev.tokens"] {
        assert!(!cli.file(file).exists(), "{file}");
    }
    assert_eq!(cli.run(&["list", "--json"]).succeeded().json(), json!([]));
}

#[test]
fn delete_works_where_neither_config_nor_tokens_can_be_read() {
    let cli = Cli::new();
    std::fs::write(cli.file("job.json"), "{").unwrap();
    std::fs::write(cli.file("job.tokens"), "damaged").unwrap();
    cli.run(&["delete", "job", "--yes"]).succeeded();
    assert!(!cli.file("job.json").exists());
    assert!(!cli.file("job.tokens").exists());
}

/// Exports a connection to a file, and tells which.
fn export(cli: &Cli, name: &str) -> String {
    let file = cli.file(&format!("{name}.export")).display().to_string();
    let mut command = cli.command(&["export", name, "--output", &file]);
    command.env("TOKENWELL_TRANSFER_PASSWORD", "journey");
    Ran::from(command.output().unwrap()).succeeded();
    file
}

fn import(cli: &Cli, file: &str, name: &str) -> Ran {
    let mut command = cli.command(&["import", file, "--name", name, "--force"]);
    command.env("TOKENWELL_TRANSFER_PASSWORD", "journey");
    Ran::from(command.output().unwrap())
}

#[test]
fn import_force_of_a_connection_without_tokens_leaves_none() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let exported = export(&cli, "app");
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    import(&cli, &exported, "job").succeeded();
    let status = cli.run(&["status", "job", "--json"]).succeeded().json();
    assert_eq!(status["state"], "not_authorized");
    assert!(!cli.file("job.tokens").exists());
}

#[test]
fn import_leaves_the_tokens_where_the_config_cannot_be_written() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let exported = export(&cli, "app");
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    let tokens = std::fs::read(cli.file("job.tokens")).unwrap();
    std::fs::remove_file(cli.file("job.json")).unwrap();
    std::fs::create_dir(cli.file("job.json")).unwrap();
    import(&cli, &exported, "job").failed_with(7);
    assert_eq!(std::fs::read(cli.file("job.tokens")).unwrap(), tokens);
}

#[test]
fn import_leaves_the_config_where_the_tokens_cannot_be_written() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    let mut another = server.client_credentials();
    another["client_secret"] = json!({"ref": "sealed:api"});
    cli.config("another", &another);
    cli.run_with_input(&["seal", "api"], "s").succeeded();
    let exported = export(&cli, "another");
    let config = std::fs::read(cli.file("job.json")).unwrap();
    // No secret can be written now.
    std::fs::create_dir_all(cli.file(".api.secret.tmp/x")).unwrap();
    import(&cli, &exported, "job").failed_with(7);
    assert_eq!(std::fs::read(cli.file("job.json")).unwrap(), config);
}

#[test]
fn rekey_goes_on_past_what_fails_and_says_that_the_key_is_replaced() {
    let (cli, server) = (Cli::new(), Server::start());
    let mut lost = server.client_credentials();
    cli.config("job", &lost);
    cli.run(&["token", "job"]).succeeded();
    lost["client_secret"] = json!({"ref": "sealed:none"});
    cli.config("a", &lost);
    cli.config("b", &server.client_credentials());
    std::fs::write(cli.file("b.tokens"), "damaged").unwrap();
    std::fs::write(cli.file("c.json"), "{").unwrap();
    let sealed = std::fs::read(cli.file("job.tokens")).unwrap();

    let ran = cli.run(&["rekey", "--json"]).failed_with(7);
    assert_eq!(ran.stderr, "");
    let value = ran.json();
    assert_eq!(value["key"], "key-file");
    assert_eq!(value["sealed"], json!(["job"]));
    for (index, (name, kind)) in [("a", "storage"), ("b", "storage"), ("c", "not_configured")]
        .into_iter()
        .enumerate()
    {
        assert_eq!(value["failed"][index]["name"], name);
        assert_eq!(value["failed"][index]["error"]["kind"], kind);
    }
    assert_ne!(std::fs::read(cli.file("job.tokens")).unwrap(), sealed);
    assert_eq!(cli.run(&["token", "job"]).succeeded().stdout, "token-1\n");

    let ran = cli.run(&["rekey"]).failed_with(7);
    assert!(ran.stdout.starts_with("1 connection sealed"), "{ran:?}");
    for said in [
        "a: ",
        "sealed secret none",
        "b: ",
        "c: ",
        "The key is replaced",
    ] {
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
}

#[test]
fn rekey_tells_of_a_key_that_stays_for_another_store() {
    let cli = Cli::new();
    cli.run_with_input(&["seal", "one"], "s").succeeded();
    let there = tempfile::tempdir().unwrap();
    let there = format!("file:{}", there.path().display());
    let elsewhere = ["--store", &there, "seal", "two"];
    cli.run_with_input(&elsewhere, "s").succeeded();
    let ran = cli.run(&["rekey"]).succeeded();
    assert!(ran.stderr.contains("another store"), "{ran:?}");
}

#[test]
fn callback_url_prints_the_uri_alone_on_standard_output() {
    let cli = Cli::new();
    cli.config("shop", &json!({}));
    let ran = cli.run(&["callback-url", "shop"]).succeeded();
    assert_eq!(ran.stdout, "http://127.0.0.1/oauth2\n");
    assert!(ran.stderr.contains("RFC 8252"), "{ran:?}");
    let set = [
        "callback-url",
        "shop",
        "--json",
        "--set",
        "redirect_uri=https://app.example/cb",
    ];
    assert_eq!(
        cli.run(&set).succeeded().json()["redirect_uri"],
        "https://app.example/cb"
    );
}

#[test]
fn authorize_without_a_browser_prints_the_url_first_and_the_status_last() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let mut child = cli
        .command(&["authorize", "app", "--no-browser", "--json"])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    let url = first["authorization_url"].as_str().unwrap();
    assert!(url.starts_with(&server.url("/authorize?")), "{url}");
    assert_eq!(
        first["redirect_uri"],
        parameter(&Url::parse(url).unwrap(), "redirect_uri")
    );

    let page = visit(&callback(url, "the-code"));
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let mut last = String::new();
    stdout.read_to_string(&mut last).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let status: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(status["state"], "authorized");
    assert!(server.received("/token")[0].body.contains("code=the-code"));
    assert_eq!(cli.run(&["token", "app"]).succeeded().stdout, "token-1\n");
}

#[test]
fn what_one_process_began_another_completes() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let elsewhere = "redirect_uri=https://app.example/cb";
    let begun = cli
        .run(&[
            "authorize",
            "app",
            "--no-browser",
            "--json",
            "--set",
            elsewhere,
        ])
        .succeeded()
        .json();
    let callback = callback(begun["authorization_url"].as_str().unwrap(), "the-code");
    assert!(
        callback.starts_with("https://app.example/cb?"),
        "{callback}"
    );

    let forged = callback.replace("state=", "state=x");
    let refused = cli
        .run(&["complete", "app", &forged, "--json", "--set", elsewhere])
        .failed_with(5);
    assert_eq!(refused.error()["kind"], "protocol_violation");
    let completed = cli
        .run_with_input(
            &["complete", "app", "-", "--json", "--set", elsewhere],
            &callback,
        )
        .succeeded();
    assert_eq!(completed.json()["state"], "authorized");
    cli.run(&["complete", "app", &callback, "--set", elsewhere])
        .failed_with(5);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_wait_for_the_user_cleanly() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let mut child = cli
        .command(&["authorize", "app", "--no-browser"])
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut url)
        .unwrap();
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let ran = Ran::from(child.wait_with_output().unwrap()).failed_with(130);
    assert!(ran.stderr.contains("interrupted"), "{ran:?}");
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let cli = Cli::new();
    let mut child = cli.command(&["completions", "bash"]).spawn().unwrap();
    drop(child.stdout.take());
    Ran::from(child.wait_with_output().unwrap()).succeeded();
}

#[test]
fn what_is_not_for_a_terminal_has_no_colours() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    for arguments in [
        &["list"][..],
        &["status"],
        &["check", "job"],
        &["token", "none"],
    ] {
        let ran = cli.run(arguments);
        assert!(
            !ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'),
            "{ran:?}"
        );
    }
}

#[test]
fn no_output_but_the_token_commands_tells_a_secret() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    for command in [
        "list",
        "show",
        "check",
        "status",
        "refresh",
        "history",
        "callback-url",
        "revoke",
        "clear",
    ] {
        for form in [None, Some("--json")] {
            let arguments: Vec<&str> = [command]
                .into_iter()
                .chain((command != "list").then_some("job"))
                .chain(form)
                .collect();
            let ran = cli.run(&arguments);
            for secret in ["very-secret", "token-"] {
                assert!(
                    !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
                    "{arguments:?}: {ran:?}"
                );
            }
        }
    }
}

/// Waits until the server has received something there.
fn await_request(server: &Server, path: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while server.received(path).is_empty() {
        assert!(Instant::now() < until, "nothing came to {path}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(unix)]
fn signal(child: &std::process::Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_command_that_a_signal_ends_stores_what_the_server_answers_first() {
    for (sent, code) in [("-INT", 130), ("-TERM", 143)] {
        let (cli, server) = (Cli::new(), Server::start());
        let mut config = server.client_credentials();
        config["token_endpoint"] = server.url("/slow").into();
        cli.config("job", &config);
        let child = cli.command(&["token", "job"]).spawn().unwrap();
        await_request(&server, "/slow");
        signal(&child, sent);
        let ran = Ran::from(child.wait_with_output().unwrap()).failed_with(code);
        assert!(ran.stderr.contains("second Ctrl-C"), "{ran:?}");
        assert_eq!(ran.stdout, "");
        assert_eq!(cli.run(&["token", "job"]).succeeded().stdout, "token-1\n");
        assert_eq!(server.received("/slow").len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_a_command_at_once() {
    let (cli, server) = (Cli::new(), Server::start());
    let mut config = server.client_credentials();
    config["token_endpoint"] = server.url("/slow").into();
    cli.config("job", &config);
    let mut child = cli.command(&["token", "job"]).spawn().unwrap();
    await_request(&server, "/slow");
    signal(&child, "-INT");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("second Ctrl-C")));
    signal(&child, "-INT");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.concat().contains("is lost"), "{rest:?}");
}

#[test]
fn create_registers_no_client_for_a_config_that_cannot_work() {
    let (cli, server) = (Cli::new(), Server::start());
    let issuer = server.url("");
    let create = ["create", "shop", "--register", &issuer, "--json"];
    let wrong = create.iter().copied().chain(["--tls", "sometimes"]);
    let wrong: Vec<&str> = wrong.collect();
    let error = cli.run(&wrong).failed_with(3).error();
    assert_eq!(error["problems"][0]["field"], "tls");
    assert_eq!(server.received("/register").len(), 0);

    cli.run(&create).succeeded();
    assert_eq!(server.received("/register").len(), 1);
    let shown = cli.run(&["show", "shop", "--json"]).succeeded().json();
    assert_eq!(shown["client_id"], "registered");
}

#[test]
fn what_is_no_whole_url_is_told_by_its_option() {
    let cli = Cli::new();
    for (option, value) in [
        ("--for", "api.example.com/orders"),
        ("--for", "localhost:9000/orders"),
        ("--register", "login.example.com"),
    ] {
        let error = cli
            .run(&["create", "shop", option, value, "--json"])
            .failed_with(2)
            .error();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(option), "{message}");
        assert!(error["mend"].as_str().unwrap().contains("https://"));
    }
    cli.config("job", &json!({"client_id": "c"}));
    for url in ["api.example.com/orders", "api.example.com"] {
        let ran = cli.run(&["request", "job", url]).failed_with(2);
        assert!(ran.stderr.contains("https://"), "{ran:?}");
    }
}

#[test]
fn a_provider_that_wants_the_port_registered_is_told_a_port() {
    let cli = Cli::new();
    let explained = cli.run(&["providers", "okta"]).succeeded().stdout;
    assert!(
        explained.contains("redirect URI  http://127.0.0.1:8765/oauth2"),
        "{explained}"
    );
    assert!(!explained.contains("127.0.0.1/"), "{explained}");

    let config = json!({
        "provider": "okta",
        "parameters": {"domain": "x.okta.com"},
        "client_id": "abc",
        "client_secret": "s",
    });
    cli.config("shop", &config);
    let checked = cli.run(&["check", "shop", "--json"]).succeeded().json();
    assert_eq!(checked["problems"][0]["field"], "redirect_uri");
    let callback = cli
        .run(&["callback-url", "shop", "--json"])
        .succeeded()
        .json();
    assert_eq!(callback["redirect_uri"], "http://127.0.0.1:8765/oauth2");

    let set = "redirect_uri=http://127.0.0.1:9999/cb";
    let checked = cli
        .run(&["check", "shop", "--json", "--set", set])
        .succeeded()
        .json();
    assert_eq!(checked["problems"], json!([]));
}

#[test]
fn callback_url_says_where_any_port_is_put_in() {
    let cli = Cli::new();
    cli.config("shop", &json!({"redirect_uri": "http://localhost/cb"}));
    let ran = cli.run(&["callback-url", "shop"]).succeeded();
    assert_eq!(ran.stdout, "http://localhost/cb\n");
    assert!(!ran.stderr.contains("exactly as it is"), "{ran:?}");
    assert!(ran.stderr.contains("http://localhost:8765/cb"), "{ran:?}");
}

#[cfg(all(unix, not(target_os = "macos")))]
#[test]
fn a_browser_in_the_terminal_keeps_no_redirect_waiting() {
    use std::os::unix::fs::PermissionsExt;
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let browser = cli.file("w3m");
    std::fs::write(&browser, "#!/bin/sh\nexec >/dev/null 2>&1 sleep 30\n").unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let begun = Instant::now();
    let mut child = cli
        .command(&["authorize", "app"])
        .env("BROWSER", &browser)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines
        .find_map(|line| Some(line.unwrap().trim().to_owned()).filter(|l| l.starts_with("http")))
        .unwrap();
    visit(&callback(&url, "the-code"));
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let ran = Ran::from(
        cli.command(&["authorize", "app", "--timeout", "1"])
            .env("BROWSER", &browser)
            .output()
            .unwrap(),
    )
    .failed_with(4);
    // It has the token of before.
    assert!(!ran.stderr.contains("is not authorized"), "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(25));
}

#[test]
fn check_tells_which_references_lead_nowhere() {
    let (cli, server) = (Cli::new(), Server::start());
    let mut config = server.client_credentials();
    for (reference, code, severity) in [
        ("foo", 3, "error"),
        ("env:TOKENWELL_TESTS_HAVE_NO_SUCH", 0, "warning"),
        ("file:nowhere", 0, "warning"),
        ("sealed:nothing", 0, "warning"),
    ] {
        config["client_secret"] = json!({ "ref": reference });
        cli.config("job", &config);
        let checked = cli
            .run(&["check", "job", "--json"])
            .failed_with(code)
            .json();
        let problem = &checked["problems"][0];
        assert_eq!(problem["field"], "client_secret", "{reference}");
        assert_eq!(problem["severity"], severity, "{reference}");
    }
    // The keyring of other systems would ask its user.
    let unfit: &[&str] = match cfg!(target_os = "linux") {
        true => &["file:", "keyring:job"],
        false => &["file:"],
    };
    for reference in unfit {
        config["client_secret"] = json!({ "ref": reference });
        cli.config("job", &config);
        cli.run(&["token", "job"]).failed_with(3);
    }
}

#[test]
fn seal_takes_a_key_of_many_lines_whole() {
    let (cli, server) = (Cli::new(), Server::start());
    let pem = "-----BEGIN KEY-----\nAAAA\n-----END KEY-----";
    cli.run_with_input(&["seal", "key"], &format!("{pem}\n"))
        .succeeded();
    let mut config = server.client_credentials();
    config["client_secret"] = json!({"ref": "sealed:key"});
    config["token_endpoint_auth_method"] = "client_secret_post".into();
    cli.config("job", &config);
    cli.run(&["token", "job"]).succeeded();
    let body = server.received("/token").pop().unwrap().body;
    assert!(body.contains("AAAA%0A-----END"), "{body}");
    cli.run_with_input(&["seal", "key"], "\n").failed_with(2);
}

#[test]
fn a_name_that_no_secret_can_have_is_wrong_usage() {
    let cli = Cli::new();
    for name in ["a/b", ".a", "", "a b"] {
        cli.run_with_input(&["seal", name], "s").failed_with(2);
    }
}

#[test]
fn the_demonstration_is_not_for_programs() {
    Cli::new().run(&["demo", "--json"]).failed_with(2);
}

#[test]
fn create_seals_every_secret_and_delete_forgets_them() {
    let cli = Cli::new();
    let config = json!({
        "grant_type": "token_exchange",
        "token_endpoint": "https://as.example/token",
        "client_id": "job",
        "client_secret": "one",
        "subject_token": "two",
        "subject_token_type": "access_token",
        "actor_token": "three",
        "actor_token_type": "access_token",
    });
    let file = cli.file("given");
    std::fs::write(&file, config.to_string()).unwrap();
    let file = file.to_str().unwrap();
    cli.run(&["create", "job", "--config", file, "--seal"])
        .succeeded();
    let written = std::fs::read_to_string(cli.file("job.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    let fields = ["client_secret", "subject_token", "actor_token"];
    for field in fields {
        let reference = format!("sealed:job.{field}");
        assert_eq!(written[field], json!({ "ref": reference }));
    }
    cli.run(&["delete", "job", "--yes"]).succeeded();
    for field in fields {
        assert!(
            !cli.file(&format!("job.{field}.secret")).exists(),
            "{field}"
        );
    }
}

#[test]
fn import_tells_a_grant_without_a_user_to_obtain_its_token() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    let exported = export(&cli, "job");
    let imported = import(&cli, &exported, "copy").succeeded();
    assert!(imported.stdout.contains("token copy"), "{imported:?}");
}

#[test]
fn a_profile_is_imported_into_a_connection_that_is_there() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    let exported = export(&cli, "job");
    let into_profile = |name: &str| {
        let mut command = cli.command(&["--profile", "dev", "import", &exported, "--name", name]);
        command.env("TOKENWELL_TRANSFER_PASSWORD", "journey");
        Ran::from(command.output().unwrap())
    };
    into_profile("nowhere").failed_with(3);
    assert!(!cli.file("nowhere.dev.json").exists());
    into_profile("job").succeeded();
    assert!(cli.file("job.dev.json").exists());
}

#[test]
fn connections_do_not_share_what_one_of_them_had_sealed() {
    let (cli, server) = (Cli::new(), Server::start());
    let token_endpoint = server.url("/token");
    let create = [
        "create",
        "shop",
        "--grant-type",
        "client_credentials",
        "--client-id",
        "job",
        "--client-secret",
        "first",
        "--token-endpoint",
        &token_endpoint,
        "--seal",
    ];
    cli.run(&create).succeeded();
    let with_password = |arguments: &[&str]| {
        let mut command = cli.command(arguments);
        command.env("TOKENWELL_TRANSFER_PASSWORD", "journey");
        Ran::from(command.output().unwrap())
    };
    let file = cli.file("shop.export");
    let file = file.to_str().unwrap();
    with_password(&["export", "shop", "-o", file]).succeeded();
    with_password(&["export", "shop", "-o", file]).failed_with(2);
    with_password(&["export", "shop", "-o", file, "--force"]).succeeded();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let there = with_password(&["import", file, "--json"]).failed_with(2);
    let mend = there.error()["mend"].to_string();
    assert!(mend.contains("tokens") && !mend.contains("stay"), "{mend}");

    with_password(&["import", file, "--name", "other"]).succeeded();
    let shown = cli.run(&["show", "other", "--json"]).succeeded().json();
    assert_eq!(
        shown["client_secret"],
        json!({"ref": "sealed:other.client_secret"})
    );
    // One that refers to the other's keeps it.
    let third = json!({
        "grant_type": "client_credentials",
        "token_endpoint": token_endpoint,
        "client_id": "job",
        "client_secret": {"ref": "sealed:shop.client_secret"},
    });
    cli.config("third", &third);
    cli.run(&["delete", "shop", "--yes"]).succeeded();
    for name in ["other", "third"] {
        cli.run(&["token", name]).succeeded();
    }
    cli.run(&["delete", "other", "--yes"]).succeeded();
    assert!(!cli.file("other.client_secret.secret").exists());

    let mut wrong = cli.command(&["import", file, "--name", "late", "--json"]);
    wrong.env("TOKENWELL_TRANSFER_PASSWORD", "wrong");
    let wrong = Ran::from(wrong.output().unwrap()).failed_with(7);
    assert!(!wrong.stderr.contains("master"), "{wrong:?}");
}

#[test]
fn a_grant_without_a_user_is_not_told_to_ask_one() {
    let (cli, server) = (Cli::new(), Server::start());
    let config = json!({
        "grant_type": "refresh_token",
        "token_endpoint": server.url("/revoked"),
        "client_id": "app",
        "refresh_token": "rt",
    });
    cli.config("rt", &config);
    for _ in 0..2 {
        let ran = cli.run(&["token", "rt"]);
        assert!(!ran.stderr.contains("tokenwell authorize"), "{ran:?}");
        assert!(ran.stderr.contains("new `refresh_token`"), "{ran:?}");
    }
    let status = cli.run(&["status", "rt"]).succeeded();
    assert!(status.stdout.contains("new `refresh_token`"), "{status:?}");
}

#[test]
fn a_refusal_that_is_remembered_says_until_when_and_how_to_ask_now() {
    let (cli, server) = (Cli::new(), Server::start());
    let mut config = server.client_credentials();
    config["token_endpoint"] = server.url("/nowhere").into();
    config["renewal"] = json!({"first_retry_seconds": 60});
    cli.config("job", &config);
    for _ in 0..2 {
        let ran = cli.run(&["token", "job"]).failed_with(6);
        assert!(ran.stderr.contains("tokenwell refresh job"), "{ran:?}");
        assert!(ran.stderr.contains("`token_endpoint`"), "{ran:?}");
    }
}

#[test]
fn who_asks_for_what_is_not_there_is_told_so() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    for command in ["list", "status"] {
        let ran = cli.run(&["--profile", "typo", command]).succeeded();
        assert!(ran.stderr.contains("profile typo"), "{ran:?}");
        assert!(!ran.stderr.contains("There are no connections"), "{ran:?}");
    }
    let some = cli.run(&["status", "job", "nope", "--json"]).failed_with(3);
    assert_eq!(some.json()[0]["state"], "not_authorized");
}

#[test]
fn a_variable_without_a_value_is_told_by_its_name() {
    let cli = Cli::new();
    for variable in ["TOKENWELL_DIR", "TOKENWELL_AUDIT"] {
        let mut command = cli.command(&["list"]);
        let ran = Ran::from(command.env(variable, "").output().unwrap()).failed_with(2);
        assert!(ran.stderr.contains(variable), "{ran:?}");
    }
}

#[test]
fn what_to_type_leads_to_the_directory_that_was_given() {
    let cli = Cli::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    for arguments in [
        &["--dir", elsewhere, "list"][..],
        &["--dir", elsewhere, "show", "shop"],
    ] {
        let ran = cli.run(arguments);
        let typed = format!("tokenwell --dir {elsewhere} create");
        assert!(ran.stderr.contains(&typed), "{ran:?}");
    }
}

#[test]
fn complete_takes_the_query_alone_and_says_once_why_not() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("app", &server.authorization_code());
    let elsewhere = "redirect_uri=https://app.example/cb";
    let begin = [
        "authorize",
        "app",
        "--no-browser",
        "--json",
        "--set",
        elsewhere,
    ];
    let begun = cli.run(&begin).succeeded().json();
    let callback = callback(begun["authorization_url"].as_str().unwrap(), "the-code");
    let query = &callback[callback.find('?').unwrap()..];
    let forged = query.replace("state=", "state=x");
    let refused = cli
        .run(&["complete", "app", &forged, "--set", elsewhere])
        .failed_with(5);
    assert_eq!(refused.stderr.lines().count(), 2, "{refused:?}");
    cli.run(&["complete", "app", query, "--set", elsewhere])
        .succeeded();
}

#[test]
fn completions_offer_no_hidden_command() {
    let script = Cli::new().run(&["completions", "bash"]).succeeded().stdout;
    assert!(script.contains("callback-url") && script.contains("--profile"));
    assert!(!script.contains("precompile-component"));
}

#[test]
fn a_config_may_begin_with_a_byte_order_mark() {
    let cli = Cli::new();
    std::fs::write(cli.file("shop.json"), "\u{feff}{\"client_id\": \"c\"}").unwrap();
    let shown = cli.run(&["show", "shop", "--json"]).succeeded().json();
    assert_eq!(shown["client_id"], "c");
}

#[test]
fn a_token_that_lasts_less_than_was_asked_for_is_said_to() {
    let (cli, server) = (Cli::new(), Server::start());
    cli.config("job", &server.client_credentials());
    cli.run(&["token", "job"]).succeeded();
    let long = cli
        .run(&["token", "job", "--min-validity", "4000"])
        .succeeded();
    assert!(long.stderr.contains("less than was asked for"), "{long:?}");
    let short = cli
        .run(&["token", "job", "--min-validity", "60"])
        .succeeded();
    assert_eq!(short.stderr, "");
}

#[test]
fn rekey_takes_no_password_for_a_key_that_has_none() {
    let cli = Cli::new();
    let file = cli.file("password");
    std::fs::write(&file, "secret").unwrap();
    let file = file.to_str().unwrap();
    let rekey = ["rekey", "--to", "key-file", "--new-password-file", file];
    cli.run(&rekey).failed_with(2);
}
