//! The cases of `connections/`, `files/` and `interactive/`.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokenwell::{
    Connection, DeviceAuthorization, Error, Event, Host, Listener, LocalSecrets, LoopbackListener,
    Redirect, Secrets, UserAgent, UserAgentError,
};
use tokenwell_tests::{Answer, ReceivedRequest, ScriptedServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use super::matching::{Bindings, Outcome, Signature, elements, known, text};
use super::{Place, contract, failed, steps};

/// Runs a case.
pub async fn run(case: &Value) -> Outcome<()> {
    known(
        case,
        &[
            "case",
            "connection",
            "config",
            "config-fails",
            "directory",
            "files",
            "password",
            "unchanged",
            "never-shown",
            "steps",
        ],
    )?;
    let server = ScriptedServer::start();
    let scene = Arc::new(Scene::default());
    scene.lock().bindings.bind("server", server.url(""));
    let playing = Arc::clone(&scene);
    server.otherwise(move |request| playing.lock().answer(request));

    let place = Place::make(case)?;
    let stage = Stage {
        case,
        place,
        scene: Arc::clone(&scene),
    };
    let ran = stage.run().await;
    let scene = scene.lock();
    for secret in elements(case, "never-shown")
        .iter()
        .filter_map(Value::as_str)
    {
        if scene.shown.contains(secret) {
            return Err(format!("`{secret}` is shown in {}", scene.shown));
        }
    }
    ran
}

/// What a case has come to.
#[derive(Default)]
struct Scene(Mutex<State>);

#[derive(Default)]
struct State {
    bindings: Bindings,
    /// The exchanges to come.
    exchanges: VecDeque<Value>,
    /// What the user does with the authorization URL.
    browser: Vec<Value>,
    /// What the user is to be shown.
    to_show: Option<Value>,
    browsing: Vec<JoinHandle<()>>,
    events: Vec<Value>,
    /// Every error and every event.
    shown: String,
    wrong: Vec<String>,
}

impl Scene {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, request: &ReceivedRequest) -> Answer {
        let at = format!("{} {}", request.method, request.path);
        let Some(exchange) = self.exchanges.pop_front() else {
            self.wrong.push(format!("{at} was not to come"));
            return Answer::new(500, "text/plain", "this request was not to come");
        };
        if let Err(why) = self.compare(&exchange["request"], request) {
            self.wrong.push(format!("{at}: {why}"));
        }
        self.respond(&exchange["response"]).unwrap_or_else(|why| {
            self.wrong.push(why);
            Answer::close()
        })
    }

    fn compare(&mut self, expected: &Value, found: &ReceivedRequest) -> Outcome<()> {
        known(
            expected,
            &["method", "path", "query", "form", "json", "headers"],
        )?;
        let bindings = &mut self.bindings;
        let (method, path) = (json!(found.method), json!(found.path));
        bindings.expect(&expected["method"], Some(&method), "method")?;
        bindings.expect(&expected["path"], Some(&path), "path")?;
        let query: Vec<_> = url::form_urlencoded::parse(found.query.as_bytes())
            .into_owned()
            .collect();
        for (name, found) in [("query", query), ("form", found.form())] {
            let Some(expected) = expected.get(name) else {
                continue;
            };
            let count = found.len();
            let found: Map<String, Value> = found
                .into_iter()
                .map(|(name, value)| (name, Value::String(value)))
                .collect();
            let names = expected.as_object().into_iter().flat_map(Map::keys);
            let all = names.filter(|name| found.contains_key(*name)).count();
            if [found.len(), all] != [count; 2] || expected.as_object().map(Map::len) != Some(all) {
                return Err(format!("{name}: expected {expected}, found {found:?}"));
            }
            bindings.expect(expected, Some(&Value::Object(found)), name)?;
        }
        if let Some(expected) = expected.get("json") {
            let found = serde_json::from_slice(&found.body).map_err(failed)?;
            bindings.expect(expected, Some(&found), "json")?;
        }
        let headers: Map<String, Value> = found
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let expected = expected.get("headers").unwrap_or(&Value::Null);
        match expected {
            Value::Null => Ok(()),
            expected => bindings.expect(expected, Some(&Value::Object(headers)), "headers"),
        }
    }

    fn respond(&self, response: &Value) -> Outcome<Answer> {
        match response.as_str() {
            Some("never") => return Ok(Answer::hang()),
            Some("closed") => return Ok(Answer::close()),
            _ => known(response, &["status", "headers", "json", "text"])?,
        }
        let response = self.bindings.fill_all(response)?;
        let status = response.get("status").and_then(Value::as_u64);
        let status = status.unwrap_or(200).try_into().map_err(failed)?;
        let no_headers = Map::new();
        let headers = response.get("headers").and_then(Value::as_object);
        let headers = headers.unwrap_or(&no_headers);
        let (media_type, body) = match (response.get("json"), response.get("text")) {
            (Some(json), None) => ("application/json", json.to_string()),
            (None, Some(Value::String(text))) => ("text/plain", text.clone()),
            (None, None) => ("text/plain", String::new()),
            _ => return Err("a response has `json` or `text`".to_owned()),
        };
        let media_type = headers
            .get("content-type")
            .and_then(Value::as_str)
            .unwrap_or(media_type);
        let mut answer = Answer::new(status, media_type, body);
        for name in headers.keys().filter(|name| *name != "content-type") {
            answer = answer.with_header(name, text(&response["headers"], name)?);
        }
        Ok(answer)
    }
}

struct Stage<'a> {
    case: &'a Value,
    place: Place,
    scene: Arc<Scene>,
}

impl Stage<'_> {
    async fn run(&self) -> Outcome<()> {
        let mut opened = match (self.open().await, self.case.get("config-fails")) {
            (Ok(_), Some(_)) => return Err("the config does not fail".to_owned()),
            (Ok(opened), None) => opened,
            (Err(Opening::Failed(why)), _) => return Err(why),
            (Err(Opening::Config(error)), expected) => {
                let expected = expected.ok_or_else(|| error.to_string())?;
                let mut scene = self.scene.lock();
                return scene
                    .bindings
                    .expect(expected, error.get("problems"), "problems");
            }
        };
        for (number, step) in steps(self.case)?.iter().enumerate() {
            let at = |why| format!("step {}: {why}", number + 1);
            if step.get("restart") == Some(&json!(true)) {
                drop(opened);
                opened = self.open().await.map_err(|_| "no restart".to_owned())?;
            }
            self.step(&opened, step).await.map_err(at)?;
        }
        if self.case.get("unchanged") == Some(&json!(true)) {
            self.place.is_unchanged()?;
        }
        Ok(())
    }

    /// A host on the directory, and the connection in it.
    async fn open(&self) -> Result<Opened, Opening> {
        let (store, secrets) = self.place.parts(self.case);
        let (noting, user) = (Arc::clone(&self.scene), User(Arc::clone(&self.scene)));
        let host = Host::builder()
            .store(store)
            .secrets(secrets.clone())
            .events(move |event: Event| {
                let mut scene = noting.lock();
                let event = contract::event(event);
                scene.shown.push_str(&event.to_string());
                scene.events.push(event);
            })
            .user_agent(user)
            .build()
            .map_err(|error| Opening::Failed(error.to_string()))?;
        let name = self.case.get("connection").and_then(Value::as_str);
        let name = name.unwrap_or("shop");
        let config = match self.case.get("config") {
            Some(config) => {
                let filled = self.scene.lock().bindings.fill_all(config);
                filled.map_err(Opening::Failed)?.to_string()
            }
            None => {
                let path = self.place.directory.path().join(format!("{name}.json"));
                fs::read_to_string(path).map_err(|error| Opening::Failed(error.to_string()))?
            }
        };
        let config = host.parse_config(&config).await.map_err(|error| {
            let error = contract::error(error);
            self.scene.lock().shown.push_str(&error.to_string());
            Opening::Config(error)
        })?;
        Ok(Opened {
            connection: host.connection(name, config),
            host,
            secrets,
        })
    }

    async fn step(&self, opened: &Opened, step: &Value) -> Outcome<()> {
        known(
            step,
            &[
                "call",
                "with",
                "restart",
                "pause-milliseconds",
                "times",
                "server",
                "events",
                "gives",
                "fails",
                "browser",
                "shown",
            ],
        )?;
        if let Some(pause) = step.get("pause-milliseconds").and_then(Value::as_u64) {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let with = {
            let mut scene = self.scene.lock();
            scene.exchanges = elements(step, "server").iter().cloned().collect();
            scene.browser = elements(step, "browser").to_vec();
            scene.to_show = step.get("shown").cloned();
            scene.events.clear();
            let with = step.get("with").unwrap_or(&Value::Null);
            scene.bindings.fill_all(with)?
        };
        let mut calls = JoinSet::new();
        for _ in 0..step.get("times").and_then(Value::as_u64).unwrap_or(1) {
            let (opened, with) = (opened.clone(), with.clone());
            let call = text(step, "call")?.to_owned();
            calls.spawn(async move { opened.called(&call, &with).await });
        }
        let answers = calls.join_all().await;
        let browsing = std::mem::take(&mut self.scene.lock().browsing);
        for browser in browsing {
            browser.await.map_err(failed)?;
        }

        for signed in self.compare(step, answers)? {
            let verified = opened
                .secrets
                .verify(
                    &signed.jwk,
                    &signed.algorithm,
                    &signed.data,
                    &signed.signature,
                )
                .await;
            if verified != Ok(true) {
                return Err(format!("the JWT's signature: {verified:?}"));
            }
        }
        Ok(())
    }

    /// Compares what has come of a step with what is expected. The signatures
    /// that were met on the way are still to be checked.
    fn compare(
        &self,
        step: &Value,
        answers: Vec<Outcome<Result<Value, Error>>>,
    ) -> Outcome<Vec<Signature>> {
        let mut scene = self.scene.lock();
        if let Some(wrong) = scene.wrong.first() {
            return Err(wrong.clone());
        }
        for answer in answers {
            match (answer?, step.get("fails")) {
                (Ok(found), None) => {
                    if let Some(expected) = step.get("gives") {
                        scene.bindings.expect(expected, Some(&found), "result")?;
                    }
                }
                (Err(error), expected) => {
                    let error = contract::error(error);
                    scene.shown.push_str(&error.to_string());
                    let expected = expected.ok_or_else(|| error.to_string())?;
                    scene.bindings.expect(expected, Some(&error), "error")?;
                }
                (Ok(found), Some(expected)) => {
                    return Err(format!("expected {expected}, found {found}"));
                }
            }
        }
        if let Some(exchange) = scene.exchanges.front() {
            return Err(format!("this did not come: {}", exchange["request"]));
        }
        if scene.to_show.is_some() || !scene.browser.is_empty() {
            return Err("the user was not asked".to_owned());
        }
        let name = self.case.get("connection").and_then(Value::as_str);
        let name = json!(name.unwrap_or("shop"));
        if scene.events.iter().any(|event| event["connection"] != name) {
            return Err(format!("another's events: {:?}", scene.events));
        }
        if let Some(expected) = step.get("events") {
            let kinds: Value = scene
                .events
                .iter()
                .map(|event| event["kind"].clone())
                .collect();
            scene.bindings.expect(expected, Some(&kinds), "events")?;
        }
        Ok(std::mem::take(&mut scene.bindings.signatures))
    }
}

/// Why there is no connection.
enum Opening {
    Config(Value),
    Failed(String),
}

/// A host, and the connection in it.
#[derive(Clone)]
struct Opened {
    host: Host,
    connection: Connection,
    secrets: LocalSecrets,
}

impl Opened {
    /// Makes a call; an error of the outer kind is the case's own.
    async fn called(&self, call: &str, with: &Value) -> Outcome<Result<Value, Error>> {
        let Self {
            host, connection, ..
        } = self;
        let parsed = |text: String| serde_json::from_str(&text).map_err(failed);
        let member = |name| text(with, name);
        let done = |()| Value::Null;
        Ok(match call {
            "token" => {
                let token = connection.token(contract::token_options(with)?).await;
                token.map(contract::token)
            }
            "refresh" => connection.refresh().await.map(contract::token),
            "authorization-headers" => {
                known(with, &["method", "url", "options", "dpop-nonce"])?;
                let options = contract::token_options(&with["options"])?;
                let nonce = with.get("dpop-nonce").and_then(Value::as_str);
                let (method, url) = (member("method")?, member("url")?);
                let headers = connection.authorization_headers(method, url, options, nonce);
                headers.await.map(contract::headers)
            }
            "status" => connection.status().await.map(contract::status),
            "check" => connection.check().await.map(contract::problems),
            "resolve" => connection.resolve().await.map(contract::resolved),
            "history" => connection.history().await.map(contract::events),
            "response-json" => json_of(connection.response_json().await, parsed)?,
            "introspect" => json_of(connection.introspect().await, parsed)?,
            "userinfo" => json_of(connection.userinfo().await, parsed)?,
            "begin-authorization" => {
                let options = contract::authorization_options(with)?;
                let pending = connection.begin_authorization(options).await;
                pending.map(contract::pending)
            }
            "complete-authorization" => {
                known(with, &["url", "form-post"])?;
                let redirect = match with.get("form-post") {
                    Some(_) => Redirect::FormPost(member("form-post")?.to_owned()),
                    None => Redirect::Url(member("url")?.to_owned()),
                };
                let completed = connection.complete_authorization(redirect).await;
                completed.map(|_| Value::Null)
            }
            "authorize" => {
                let options = contract::authorize_options(with)?;
                connection.authorize(options).await.map(|_| Value::Null)
            }
            "begin-device-authorization" => {
                let device = connection.begin_device_authorization().await;
                device.map(contract::device)
            }
            "poll-device-authorization" => {
                let poll = connection.poll_device_authorization().await;
                poll.map(contract::poll)
            }
            "clear" => connection.clear().await.map(done),
            "revoke" => connection.revoke().await.map(done),
            "reseal" => connection.reseal().await.map(done),
            "discover-resource" => json_of(host.discover_resource(member("url")?).await, parsed)?,
            "register-client" => {
                known(with, &["issuer", "metadata", "initial-access-token"])?;
                let token = with.get("initial-access-token").and_then(Value::as_str);
                let metadata = with["metadata"].to_string();
                let registered = host.register_client(member("issuer")?, &metadata, token);
                json_of(registered.await, parsed)?
            }
            other => return Err(format!("`{other}` is not known here")),
        })
    }
}

fn json_of(
    answer: Result<String, Error>,
    parsed: impl Fn(String) -> Outcome<Value>,
) -> Outcome<Result<Value, Error>> {
    match answer {
        Ok(text) => Ok(Ok(parsed(text)?)),
        Err(error) => Ok(Err(error)),
    }
}

/// The user, and the browser in front of them.
struct User(Arc<Scene>);

#[async_trait]
impl UserAgent for User {
    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Box<dyn Listener>, UserAgentError> {
        let listener = LoopbackListener::bind(connection, redirect_uri).await?;
        Ok(Box::new(listener))
    }

    async fn open_url(&self, _: &str, url: &str) -> Result<(), UserAgentError> {
        let Ok(url) = Url::parse(url) else {
            return Err(UserAgentError::Denied(format!("{url} is no URL")));
        };
        let responses = {
            let mut scene = self.0.lock();
            for (name, value) in url.query_pairs() {
                if name == "state" || name == "redirect_uri" {
                    scene.bindings.bind(&name, value);
                }
            }
            std::mem::take(&mut scene.browser)
        };
        let scene = Arc::clone(&self.0);
        let browsing = tokio::spawn(async move {
            for response in responses {
                if let Err(why) = browse(&scene, &response).await {
                    scene.lock().wrong.push(format!("the browser: {why}"));
                }
            }
        });
        self.0.lock().browsing.push(browsing);
        Ok(())
    }

    async fn show_device_code(
        &self,
        _: &str,
        device: &DeviceAuthorization,
    ) -> Result<(), UserAgentError> {
        let mut scene = self.0.lock();
        let device = contract::device(device.clone());
        let expected = scene.to_show.take().unwrap_or(json!("nothing"));
        if let Err(why) = scene.bindings.expect(&expected, Some(&device), "shown") {
            scene.wrong.push(why);
        }
        Ok(())
    }
}

/// Goes where the authorization endpoint would send the browser.
async fn browse(scene: &Scene, response: &Value) -> Outcome<()> {
    known(response, &["query", "status"])?;
    let url = {
        let scene = scene.lock();
        let mut url = Url::parse(scene.bindings.get("redirect_uri")?).map_err(failed)?;
        let query = scene.bindings.fill_all(&response["query"])?;
        for (name, value) in query.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            url.query_pairs_mut().append_pair(name, value);
        }
        url
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port()) else {
        return Err(format!("{url} has no port"));
    };
    let mut stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    let request = format!(
        "GET {}?{} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n",
        url.path(),
        url.query().unwrap_or_default(),
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await.map_err(failed)?;
    let status = page
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse::<u16>().ok());
    match response.get("status") {
        Some(expected) if *expected != json!(status) => {
            Err(format!("expected {expected}, found {page}"))
        }
        _ => Ok(()),
    }
}
