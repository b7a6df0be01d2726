//! A fake world for the flows: a paused clock, a store in memory, keys, and an
//! authorization server that looks at everything that it is sent.
//! Every effect can be made to fail, and a flow can be dropped at any of them,
//! which is what a crash is.

use super::Connection;
use super::fake_keys;
use super::fake_server::{self, Received, Server};
use crate::config::{Config, parse};
use crate::event::Event;
use crate::http::{Failure, Request, Response};
use crate::platform::{
    Entry, Lease, Loaded, Platform, Random, SealingKey, SecretError, StoreError, Swapped,
};
use crate::secret::SecretString;
use crate::time::Timestamp;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// When the fake world begins, in milliseconds.
const BEGINNING: u64 = 1_000_000_000_000;

/// The clock of the test that runs on this thread. It stands still while
/// anybody can go on, and goes to the next one's time when all wait.
#[derive(Clone, Copy)]
struct Clock {
    now: u64,
    /// How many polls of this round ended in waiting.
    waiting: usize,
    /// When the first of them goes on.
    next: u64,
}

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock { now: BEGINNING, waiting: 0, next: u64::MAX }) };
}

fn change_clock(change: impl FnOnce(&mut Clock)) {
    let mut clock = CLOCK.get();
    change(&mut clock);
    CLOCK.set(clock);
}

/// What the token endpoint answers out of turn.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, headers and a body.
    Http(u16, Vec<(&'static str, &'static str)>, String),
    /// No response.
    Fails(Failure),
    /// The server acts, and its answer is lost.
    Lost,
}

impl Answer {
    pub fn status(status: u16, body: &str) -> Self {
        Self::Http(status, Vec::new(), body.to_owned())
    }

    pub fn oauth_error(code: &str) -> Self {
        Self::status(400, &json!({ "error": code }).to_string())
    }
}

fn response(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
        arrived_at: Timestamp(0),
    }
}

/// The world, shared by everybody in it.
pub struct World {
    /// Who runs now, where several do; each has random numbers of its own, so
    /// that what he draws does not depend on the others.
    current: Cell<usize>,
    random: RefCell<BTreeMap<usize, u64>>,
    /// A digest of everything that each has seen of the world.
    seen: RefCell<BTreeMap<usize, u64>>,
    /// Who was given which refresh token.
    pub delivered: RefCell<Vec<(usize, String)>>,
    versions: Cell<u64>,
    /// What is stored.
    pub entries: RefCell<BTreeMap<String, Entry>>,
    fences: RefCell<BTreeMap<String, u64>>,
    leases: RefCell<BTreeMap<String, (u64, u64)>>,
    /// The authorization server.
    pub server: RefCell<Server>,
    /// What it answers out of turn, first come first served.
    pub answers: RefCell<VecDeque<Answer>>,
    /// The documents at its other URLs.
    pub documents: RefCell<BTreeMap<String, String>>,
    /// Everything that was sent to it.
    pub received: RefCell<Vec<Received>>,
    /// Every event.
    pub events: RefCell<Vec<Event>>,
    /// How many of the next writes fail.
    pub failing_writes: Cell<u32>,
    /// What it then says.
    pub write_failure: RefCell<StoreError>,
    /// Whether the next write is done and said to have failed.
    pub loses_the_answer: Cell<bool>,
    /// The sealing keys.
    pub keys: RefCell<Vec<(String, u8)>>,
    /// What is behind the reference `env:SECRET`.
    pub secret: Cell<&'static str>,
    /// The key that was last said to be needed.
    pub keys_needed: RefCell<Option<String>>,
    /// What happens just before the next write, once.
    #[allow(clippy::type_complexity, reason = "said once")]
    pub before_write: RefCell<Option<Box<dyn FnOnce()>>>,
}

/// One process's view of the world.
#[derive(Clone)]
pub struct FakePlatform(pub Rc<World>);

pub const CODE: &str = r#"{"client_id": "id", "authorization_endpoint": "https://as.example/auth",
    "token_endpoint": "https://as.example/token", "revocation_endpoint": "https://as.example/revoke",
    "redirect_uri": "http://127.0.0.1:1/oauth2"}"#;

pub const CLIENT_CREDENTIALS: &str = r#"{"client_id": "id", "client_secret": "secret", "grant_type": "client_credentials",
    "token_endpoint": "https://as.example/token", "scope": "a b"}"#;

impl World {
    pub fn new() -> Rc<Self> {
        change_clock(|clock| clock.now = BEGINNING);
        Rc::new(Self {
            current: Cell::new(0),
            random: RefCell::default(),
            seen: RefCell::default(),
            delivered: RefCell::default(),
            versions: Cell::new(0),
            entries: RefCell::default(),
            fences: RefCell::default(),
            leases: RefCell::default(),
            server: RefCell::new(Server {
                rotates: true,
                lifetime: Some(1000),
                gives_refresh_tokens: true,
                ..Server::default()
            }),
            answers: RefCell::default(),
            documents: RefCell::default(),
            received: RefCell::default(),
            events: RefCell::default(),
            failing_writes: Cell::new(0),
            write_failure: RefCell::new(StoreError::Unavailable(
                "no space left on device".to_owned(),
            )),
            loses_the_answer: Cell::default(),
            keys: RefCell::new(vec![("key".to_owned(), 7)]),
            secret: Cell::new("from-env"),
            keys_needed: RefCell::default(),
            before_write: RefCell::default(),
        })
    }

    /// Opens the connection `crm`, as one more process.
    pub fn open(self: &Rc<Self>, config: &str) -> Connection<FakePlatform> {
        self.open_with(parse(config).expect("a well-formed config"))
    }

    pub fn open_with(self: &Rc<Self>, config: Config) -> Connection<FakePlatform> {
        Connection::open("crm", config, FakePlatform(Rc::clone(self))).expect("a name")
    }

    /// The connection of [`CODE`], authorized by its user.
    pub fn authorized(self: &Rc<Self>) -> Connection<FakePlatform> {
        let connection = self.open(CODE);
        let begun = run(connection.begin_authorization(&Default::default())).expect("begun");
        let url = format!(
            "http://127.0.0.1:1/oauth2?code=good-code&state={}",
            begun.state.reveal()
        );
        let redirect = crate::authorization::Redirect::from_url(&url).expect("a redirect");
        run(connection.complete_authorization(redirect)).expect("authorized");
        self.received.borrow_mut().clear();
        connection
    }

    /// The server with its metadata, and all that it offers.
    pub fn with_metadata() -> Rc<Self> {
        let world = Self::new();
        world.publish(&[]);
        world
    }

    /// Publishes the server's metadata, with these in place of what is true; null
    /// takes away.
    pub fn publish(&self, changes: &[(&str, serde_json::Value)]) {
        let mut metadata = fake_server::metadata();
        let fields = metadata.as_object_mut().expect("an object");
        for (name, value) in changes {
            match value {
                serde_json::Value::Null => fields.remove(*name),
                value => fields.insert((*name).to_owned(), value.clone()),
            };
        }
        let place = format!("{}/.well-known/openid-configuration", fake_server::ISSUER);
        self.documents
            .borrow_mut()
            .insert(place, metadata.to_string());
    }

    /// What the user comes back with from the authorization server.
    pub fn consent(&self, authorization_url: &str) -> String {
        let mut server = self.server.borrow_mut();
        let consented = server.consent(authorization_url, CLOCK.get().now / 1000);
        consented.expect("the server takes the request")
    }

    /// Has the user authorize a connection, from the beginning to the end.
    pub fn authorize(&self, connection: &Connection<FakePlatform>) -> crate::error::Result<()> {
        let begun = run(connection.begin_authorization(&Default::default()))?;
        let query = self.consent(&begun.authorization_url);
        let url = format!("{}?{query}", begun.redirect_uri);
        let redirect = crate::authorization::Redirect::from_url(&url)?;
        run(connection.complete_authorization(redirect))
    }

    /// Everything that was sent to an endpoint.
    pub fn sent_to(&self, path: &str) -> Vec<Received> {
        let received = self.received.borrow();
        let to_it = received
            .iter()
            .filter(|received| received.url.ends_with(path));
        to_it.cloned().collect()
    }

    /// Lets time pass.
    pub fn pass(&self, seconds: u64) {
        change_clock(|clock| clock.now += seconds * 1000);
    }

    /// Sets the clock back.
    pub fn set_back(&self, seconds: u64) {
        change_clock(|clock| clock.now -= seconds * 1000);
    }

    pub fn answer_with(&self, answer: Answer) {
        self.answers.borrow_mut().push_back(answer);
    }

    /// How many token requests came.
    pub fn token_requests(&self) -> usize {
        let received = self.received.borrow();
        received
            .iter()
            .filter(|received| received.url.ends_with("/token"))
            .count()
    }

    /// The last request's parameter.
    pub fn last_sent(&self, name: &str) -> Option<String> {
        self.received
            .borrow()
            .last()
            .and_then(|received| received.form.get(name).cloned())
    }

    /// The kinds of the events so far.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.events
            .borrow()
            .iter()
            .map(|event| event.kind.as_str())
            .collect()
    }

    /// Says who runs from now on.
    pub fn let_run(&self, caller: usize) {
        self.current.set(caller);
    }

    fn saw(&self, what: impl Hash) {
        let mut seen = self.seen.borrow_mut();
        let digest = seen.entry(self.current.get()).or_default();
        let mut hasher = DefaultHasher::new();
        digest.hash(&mut hasher);
        what.hash(&mut hasher);
        *digest = hasher.finish();
    }

    /// A digest of the world with what everybody knows of it: from two that are
    /// alike everything goes on alike.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let clock = CLOCK.get().now;
        (clock, self.versions.get(), &*self.seen.borrow()).hash(&mut hasher);
        for (key, entry) in &*self.entries.borrow() {
            (key, entry.version, &entry.value).hash(&mut hasher);
        }
        (&*self.fences.borrow(), &*self.leases.borrow()).hash(&mut hasher);
        let server = self.server.borrow();
        (server.issued, &server.good, &server.spent, server.reuses).hash(&mut hasher);
        self.answers.borrow().len().hash(&mut hasher);
        hasher.finish()
    }

    pub fn is_leased(&self, key: &str) -> bool {
        let leases = self.leases.borrow();
        leases
            .get(key)
            .is_some_and(|(_, expiry)| CLOCK.get().now < *expiry)
    }

    fn take_lease(self: &Rc<Self>, key: &str, ttl: u64) -> Option<FakeLease> {
        if self.is_leased(key) {
            return None;
        }
        let fence = self.fences.borrow().get(key).map_or(1, |fence| fence + 1);
        self.fences.borrow_mut().insert(key.to_owned(), fence);
        let mut leases = self.leases.borrow_mut();
        leases.insert(key.to_owned(), (fence, CLOCK.get().now + ttl));
        Some(FakeLease {
            world: Rc::clone(self),
            key: key.to_owned(),
            fence,
        })
    }
}

/// A lease of the fake store; released when dropped, as when its holder dies.
pub struct FakeLease {
    world: Rc<World>,
    key: String,
    fence: u64,
}

impl Lease for FakeLease {
    fn fence(&self) -> u64 {
        self.fence
    }
}

impl Drop for FakeLease {
    fn drop(&mut self) {
        let mut leases = self.world.leases.borrow_mut();
        if leases
            .get(&self.key)
            .is_some_and(|(fence, _)| *fence == self.fence)
        {
            leases.remove(&self.key);
        }
    }
}

impl Random for FakePlatform {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = self.0.random.borrow_mut();
        let seed = 0x9e37_79b9_7f4a_7c15 ^ self.0.current.get() as u64;
        let x = random.entry(self.0.current.get()).or_insert(seed);
        for byte in bytes {
            // xorshift64: the same in every run.
            *x ^= *x << 13;
            *x ^= *x >> 7;
            *x ^= *x << 17;
            *byte = (*x >> 32) as u8;
        }
    }
}

impl Platform for FakePlatform {
    type Lease = FakeLease;

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        step().await;
        let world = &self.0;
        let url = request.url.to_string();
        let body = request.body.reveal().to_owned();
        let pairs: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        let headers = request.headers.iter();
        let headers = headers
            .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
            .collect();
        let received = Received {
            method: request.method.name(),
            url: url.clone(),
            form: pairs.iter().cloned().collect(),
            pairs,
            headers,
            body,
        };
        world.received.borrow_mut().push(received.clone());
        let now = CLOCK.get().now / 1000;
        let served = |world: &World| {
            let mut server = world.server.borrow_mut();
            server.answer(&received, now)
        };
        let answer = world.answers.borrow_mut().pop_front();
        let mut answered = match answer {
            Some(Answer::Http(status, headers, body)) => {
                let mut answered = response(status, &body);
                answered.headers = headers
                    .iter()
                    .map(|&(n, v)| (n.to_owned(), v.to_owned()))
                    .collect();
                answered
            }
            Some(Answer::Fails(failure)) => return Err(failure),
            Some(Answer::Lost) => {
                served(world);
                return Err(Failure::InDoubt("the connection broke off".to_owned()));
            }
            None => {
                let document = world.documents.borrow().get(&url).cloned();
                match document.map(|document| response(200, &document)) {
                    Some(document) => document,
                    None => served(world).unwrap_or_else(|| response(404, "")),
                }
            }
        };
        // The answer is on its way: a crash here loses it.
        step().await;
        answered.arrived_at = self.now();
        world.saw(&answered.body);
        if let Ok(object) = crate::json::parse_object(&answered.body)
            && let Some(token) = object.get("refresh_token").and_then(|token| token.as_str())
        {
            let caller = world.current.get();
            world
                .delivered
                .borrow_mut()
                .push((caller, token.to_owned()));
        }
        Ok(answered)
    }

    fn now(&self) -> Timestamp {
        let now = CLOCK.get().now;
        self.0.saw(now);
        Timestamp(now)
    }

    async fn sleep(&self, millis: u64) {
        wait_until(CLOCK.get().now + millis, || false).await;
    }

    async fn load(&self, key: &str, known: Option<u64>) -> Result<Loaded, StoreError> {
        step().await;
        self.0
            .saw(self.0.entries.borrow().get(key).map(|entry| entry.version));
        Ok(match self.0.entries.borrow().get(key) {
            None => Loaded::Absent,
            Some(entry) if known == Some(entry.version) => Loaded::Unchanged,
            Some(entry) => Loaded::Entry(entry.clone()),
        })
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: &[u8],
        fence: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        step().await;
        let world = &self.0;
        let before = world.before_write.borrow_mut().take();
        if let Some(before) = before {
            before();
        }
        if world.failing_writes.get() > 0 {
            world.failing_writes.set(world.failing_writes.get() - 1);
            return Err(world.write_failure.borrow().clone());
        }
        let latest = world.fences.borrow().get(key).copied().unwrap_or(0);
        world.saw((
            latest,
            world.entries.borrow().get(key).map(|entry| entry.version),
        ));
        if fence.is_some_and(|fence| fence < latest) {
            return Ok(Swapped::Fenced);
        }
        let mut entries = world.entries.borrow_mut();
        let current = entries.get(key);
        if current.map(|entry| entry.version) != expected {
            return Ok(Swapped::Stale(current.cloned()));
        }
        let version = world.versions.get() + 1;
        world.versions.set(version);
        let value = value.to_vec();
        entries.insert(key.to_owned(), Entry { version, value });
        if world.loses_the_answer.take() {
            return Err(StoreError::Unavailable("the connection broke".to_owned()));
        }
        Ok(Swapped::Stored(version))
    }

    async fn acquire_lease(
        &self,
        key: &str,
        ttl_millis: u64,
        wait_millis: u64,
    ) -> Result<Option<FakeLease>, StoreError> {
        step().await;
        let patience = CLOCK.get().now + wait_millis;
        wait_until(patience, || !self.0.is_leased(key)).await;
        let lease = self.0.take_lease(key, ttl_millis);
        self.0.saw(lease.as_ref().map(|lease| lease.fence));
        Ok(lease)
    }

    async fn resolve_secret(&self, reference: &str) -> Result<SecretString, SecretError> {
        match reference {
            "env:SECRET" => Ok(SecretString::new(self.0.secret.get())),
            other => Err(SecretError::NotFound(format!("there is no {other}"))),
        }
    }

    async fn sealing_keys(&self, needed: Option<&str>) -> Result<Vec<SealingKey>, SecretError> {
        self.0.keys_needed.replace(needed.map(str::to_owned));
        let keys = self.0.keys.borrow();
        let keys = keys.iter().map(|(id, byte)| SealingKey {
            id: id.clone(),
            key: [*byte; 32],
        });
        Ok(keys.collect())
    }

    async fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, SecretError> {
        let found = fake_keys::of_host(key);
        let found = found.ok_or_else(|| SecretError::NotFound(format!("there is no {key}")))?;
        let signed = fake_keys::sign(&found, algorithm, data);
        signed.ok_or_else(|| SecretError::Unsupported(algorithm.to_owned()))
    }

    async fn public_key(&self, key: &str) -> Result<String, SecretError> {
        let found = fake_keys::of_host(key);
        let found = found.ok_or_else(|| SecretError::NotFound(format!("there is no {key}")))?;
        if key == fake_keys::CARELESS {
            return Ok(found.to_string());
        }
        Ok(fake_keys::public(&found).to_string())
    }

    async fn verify(
        &self,
        jwk: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, SecretError> {
        let key = serde_json::from_str(jwk).expect("a key is JSON");
        let verified = fake_keys::verify(&key, algorithm, data, signature);
        verified.ok_or_else(|| SecretError::Unsupported(algorithm.to_owned()))
    }

    fn emit(&self, _connection: &str, event: &Event) {
        self.0.events.borrow_mut().push(event.clone());
    }
}

/// One effect: others may run before it, and a crash may come instead.
async fn step() {
    struct Step(bool);
    impl Future for Step {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }
    }
    Step(false).await;
}

/// Waits until a time or a condition, whichever comes first.
async fn wait_until(time: u64, condition: impl Fn() -> bool) {
    std::future::poll_fn(|_| {
        if CLOCK.get().now >= time || condition() {
            return Poll::Ready(());
        }
        change_clock(|clock| {
            clock.waiting += 1;
            clock.next = clock.next.min(time);
        });
        Poll::Pending
    })
    .await;
}

/// Runs a flow to its end.
pub fn run<T>(flow: impl Future<Output = T>) -> T {
    run_steps(flow, usize::MAX).expect("it ends")
}

/// Runs a flow for so many effects and then drops it, as a crash does; gives its
/// result if it ended before.
pub fn run_steps<T>(flow: impl Future<Output = T>, steps: usize) -> Option<T> {
    let mut flow = pin!(flow);
    for _ in 0..=steps.min(1_000_000) {
        if let Poll::Ready(value) = round(|context| flow.as_mut().poll(context), |_| 1) {
            return Some(value);
        }
    }
    None
}

/// Runs flows side by side, an effect of each in turn.
pub fn run_all<F: Future>(flows: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = flows.map(Box::pin).collect();
    let mut results = Vec::new();
    while !running.is_empty() {
        round(
            |context| {
                running.retain_mut(|flow| match flow.as_mut().poll(context) {
                    Poll::Ready(value) => {
                        results.push(value);
                        false
                    }
                    Poll::Pending => true,
                });
                running.len()
            },
            |left| *left,
        );
    }
    results
}

/// Lets one flow do one effect. `Err`: it waits, until that time at the latest.
pub fn one_step<F: Future + ?Sized>(flow: Pin<&mut F>) -> Result<Poll<F::Output>, u64> {
    change_clock(|clock| (clock.waiting, clock.next) = (0, u64::MAX));
    let polled = flow.poll(&mut Context::from_waker(Waker::noop()));
    let clock = CLOCK.get();
    if polled.is_pending() && clock.waiting > 0 {
        return Err(clock.next);
    }
    Ok(polled)
}

/// Lets time go on until then.
pub fn wait_for(time: u64) {
    change_clock(|clock| clock.now = clock.now.max(time));
}

/// Polls everybody once; when all who are left wait, time goes on.
fn round<T>(poll: impl FnOnce(&mut Context<'_>) -> T, left: impl FnOnce(&T) -> usize) -> T {
    change_clock(|clock| (clock.waiting, clock.next) = (0, u64::MAX));
    let outcome = poll(&mut Context::from_waker(Waker::noop()));
    change_clock(|clock| {
        if clock.waiting > 0 && clock.waiting == left(&outcome) {
            clock.now = clock.next;
        }
    });
    outcome
}
