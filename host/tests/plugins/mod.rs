//! Plugins of a platform, as components in linkers of the platform's own, with
//! what they were granted and no more (`tests/plugins`).

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokenwell::{
    Config, Grant, Grants, Host, PluginConnections, PluginConnectionsView, PluginHttp, Secret,
};
use tokenwell_tests::{Answer as Scripted, ReceivedRequest, ScriptedServer, workspace};
use wasmtime::component::{
    Component, ComponentNamedList, ComponentType, Instance, Lift, Linker, Lower, ResourceTable,
};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

const HONEST: &str = "tokenwell:test-plugins/honest";
const THIEF: &str = "tokenwell:test-plugins/thief";

/// The token that is to stay a secret.
const TOKEN: &str = "secret-token";

/// What a platform keeps for one running plugin.
struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    requests: PluginHttp,
    connections: PluginConnections,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.requests,
        }
    }
}

fn lent(state: &mut State) -> PluginConnectionsView<'_> {
    PluginConnectionsView {
        connections: &mut state.connections,
        table: &mut state.table,
    }
}

/// The plugin's component, compiled once.
fn component() -> &'static (Engine, Component) {
    static COMPONENT: OnceLock<(Engine, Component)> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let path = workspace().join("target/component/plugins.wasm");
        let bytes = fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "cannot read {} ({error}): run `cargo xtask test`",
                path.display()
            )
        });
        let engine = Engine::default();
        let component = Component::new(&engine, bytes).unwrap();
        (engine, component)
    })
}

/// A plugin that runs.
struct Plugin {
    store: Store<State>,
    instance: Instance,
}

impl Plugin {
    /// Starts it under a name that the platform has granted things.
    async fn start(name: &str, grants: &Grants) -> Self {
        let (engine, component) = component();
        let mut linker = Linker::<State>::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        PluginConnections::add_to_linker(&mut linker, lent).unwrap();
        let state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            requests: grants.hooks(name).unwrap(),
            connections: grants.connections(name).unwrap(),
        };
        let mut store = Store::new(engine, state);
        let instance = linker.instantiate_async(&mut store, component).await;
        Self {
            instance: instance.unwrap(),
            store,
        }
    }

    async fn call<P, R>(&mut self, interface: &str, function: &str, parameters: P) -> R
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentType + Lift + Send + Sync + 'static,
    {
        let Self { store, instance } = self;
        let interface = instance.get_export_index(&mut *store, None, interface);
        let function = instance.get_export_index(&mut *store, interface.as_ref(), function);
        let function = instance
            .get_typed_func::<P, (R,)>(&mut *store, function.unwrap())
            .unwrap();
        function.call_async(store, parameters).await.unwrap().0
    }

    async fn post(&mut self, url: &str, text: &str) -> Result<Answer, String> {
        self.call(HONEST, "post", (url, text)).await
    }

    async fn token(&mut self, connection: &str) -> Result<String, String> {
        self.call(HONEST, "token", (connection,)).await
    }

    async fn authorization(&mut self, connection: &str, url: &str) -> Result<String, String> {
        self.call(HONEST, "authorization", (connection, url)).await
    }

    async fn steal_by_requests(&mut self, api: &str, elsewhere: &str) -> Vec<Attempt> {
        self.call(THIEF, "by-requests", (api, elsewhere)).await
    }

    async fn steal_by_connections(
        &mut self,
        lent: &str,
        other: &str,
        elsewhere: &str,
    ) -> Vec<Attempt> {
        let names = (lent, other, elsewhere);
        self.call(THIEF, "by-connections", names).await
    }
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct Attempt {
    what: String,
    outcome: Result<String, String>,
}

/// A platform with a protected API and a server that the API has nothing to do
/// with.
struct Platform {
    api: ScriptedServer,
    elsewhere: ScriptedServer,
    host: Host,
}

impl Platform {
    fn start() -> Self {
        let (api, elsewhere) = (ScriptedServer::start(), ScriptedServer::start());
        let issued = json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600});
        api.answer("/token", Scripted::json(200, &issued));
        api.script("/echo", echo);
        let away = elsewhere.url("/steal");
        api.answer("/redirect", Scripted::redirect(&away));
        api.otherwise(echo);
        elsewhere.otherwise(echo);
        Self {
            api,
            elsewhere,
            host: Host::builder().build().unwrap(),
        }
    }

    fn connection(&self, name: &str) -> tokenwell::Connection {
        let config = Config {
            grant: Grant::ClientCredentials,
            client_id: Some("platform".to_owned()),
            client_secret: Some(Secret::Literal("hunter2".to_owned())),
            token_endpoint: Some(self.api.url("/token")),
            ..Config::default()
        };
        self.host.connection(name, config)
    }

    /// Nothing granted yet.
    fn grants(&self) -> Grants {
        let connections = ["crm", "bank"].map(|name| self.connection(name));
        Grants::of(["invoices", "thief"], connections)
    }

    /// The plugin may use the connection for the API.
    fn grants_to(&self, plugin: &str) -> Grants {
        let api = self.api.url("");
        self.grants().allow(plugin, "crm", &api).unwrap()
    }

    /// What the API was sent, without the requests for tokens.
    fn api_requests(&self) -> Vec<ReceivedRequest> {
        let mut requests = self.api.requests();
        requests.retain(|request| request.path != "/token");
        requests
    }
}

/// Repeats all of a request that a response can hold.
fn echo(request: &ReceivedRequest) -> Scripted {
    let authorization = request.header("authorization").unwrap_or("none");
    let body = format!("{request:?} {}", String::from_utf8_lossy(&request.body));
    Scripted::new(200, "text/plain", body).with_header("x-authorization", authorization)
}

#[tokio::test]
async fn a_plugin_calls_a_protected_api_with_a_token_that_it_never_sees() {
    let platform = Platform::start();
    let grants = platform.grants_to("invoices");
    let mut plugin = Plugin::start("invoices", &grants).await;
    let answer = plugin.post(&platform.api.url("/echo"), "invoice 7").await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("invoice 7"), "{answer:?}");
    assert!(!format!("{answer:?}").contains(TOKEN), "{answer:?}");
    let repeated = answer
        .headers
        .iter()
        .find(|(name, _)| name == "x-authorization");
    assert_eq!(repeated.unwrap().1, "Bearer ************");
    let sent = platform.api.only_request_to("/echo");
    assert_eq!(sent.method, "POST");
    let expected = format!("Bearer {TOKEN}");
    assert_eq!(sent.header("authorization"), Some(expected.as_str()));
}

#[tokio::test]
async fn a_plugins_request_is_sent_again_with_a_renewed_token_where_the_api_says_invalid_token() {
    let platform = Platform::start();
    let issued = AtomicUsize::new(0);
    platform.api.script("/token", move |_| {
        let number = issued.fetch_add(1, Ordering::SeqCst);
        let token = format!("token-{number}");
        Scripted::json(200, &json!({"access_token": token, "token_type": "Bearer"}))
    });
    platform
        .api
        .script("/latest", |request| match request.header("authorization") {
            Some("Bearer token-1") => Scripted::new(201, "text/plain", request.body.clone()),
            _ => Scripted::new(401, "text/plain", "")
                .with_header("www-authenticate", "Bearer error=\"invalid_token\""),
        });
    let grants = platform.grants_to("invoices");
    let mut plugin = Plugin::start("invoices", &grants).await;
    let answer = plugin
        .post(&platform.api.url("/latest"), "invoice 8")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (201, "invoice 8"));
    assert_eq!(platform.api.requests_to("/token").len(), 2);
}

#[tokio::test]
async fn a_thief_gets_no_token_to_see_or_elsewhere_by_any_request() {
    let platform = Platform::start();
    let grants = platform.grants_to("thief");
    let mut thief = Plugin::start("thief", &grants).await;
    let (api, elsewhere) = (platform.api.authority(), platform.elsewhere.authority());
    let attempts = thief.steal_by_requests(&api, &elsewhere).await;
    for attempt in &attempts {
        let seen = format!("{attempt:?}");
        assert!(!seen.contains(TOKEN), "{seen}");
    }
    // What did get through went to the API, as it may.
    let answered: Vec<&str> = attempts
        .iter()
        .filter(|attempt| attempt.outcome.is_ok())
        .map(|attempt| attempt.what.as_str())
        .collect();
    assert_eq!(
        answered,
        [
            "an echo",
            "an echo in other letters",
            "an echo of what is its own",
            "an echo that is compressed",
            "an echo in a trace",
            "a redirect",
            "a path with a host",
        ],
        "{attempts:#?}"
    );
    let echo = attempts.iter().find(|attempt| attempt.what == "an echo");
    let echo = echo.unwrap().outcome.as_ref().unwrap();
    assert!(echo.contains("x-authorization: Bearer ****"), "{echo}");
    let nothing: Vec<ReceivedRequest> = platform.elsewhere.requests();
    assert!(nothing.is_empty(), "{nothing:?}");
    let requests = platform.api_requests();
    for request in &requests {
        let of_the_platform = format!("Bearer {TOKEN}");
        assert_eq!(
            request.header("authorization"),
            Some(of_the_platform.as_str())
        );
        assert_eq!(request.header("host"), Some(api.as_str()), "{request:?}");
        for name in ["cookie", "x-forwarded-host"] {
            assert_eq!(request.header(name), None, "{request:?}");
        }
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn a_plugin_with_no_grant_sends_nothing() {
    let platform = Platform::start();
    let grants = platform.grants_to("invoices");
    let mut thief = Plugin::start("thief", &grants).await;
    let (api, elsewhere) = (platform.api.authority(), platform.elsewhere.authority());
    let attempts = thief.steal_by_requests(&api, &elsewhere).await;
    for attempt in &attempts {
        assert!(attempt.outcome.is_err(), "{attempt:?}");
    }
    assert!(platform.api.requests().is_empty());
    assert!(platform.elsewhere.requests().is_empty());
}

#[tokio::test]
async fn what_was_granted_over_tls_is_not_sent_in_the_clear() {
    let platform = Platform::start();
    let api = platform.api.authority();
    let grants = platform.grants();
    let grants = grants
        .allow("thief", "crm", &format!("https://{api}"))
        .unwrap();
    let mut thief = Plugin::start("thief", &grants).await;
    let elsewhere = platform.elsewhere.authority();
    let attempts = thief.steal_by_requests(&api, &elsewhere).await;
    assert!(attempts.iter().all(|attempt| attempt.outcome.is_err()));
    assert!(platform.api_requests().is_empty());
}

#[tokio::test]
async fn a_plugin_that_was_lent_a_connection_sees_its_token() {
    let platform = Platform::start();
    let grants = platform.grants();
    let grants = grants.lend("invoices", "crm").unwrap();
    let mut plugin = Plugin::start("invoices", &grants).await;
    assert_eq!(plugin.token("crm").await.unwrap(), TOKEN);
    let refused = plugin.token("bank").await.unwrap_err();
    assert!(
        refused.contains("was not lent the connection bank"),
        "{refused}"
    );
}

#[tokio::test]
async fn headers_are_made_for_the_origins_that_were_granted_alone() {
    let platform = Platform::start();
    let grants = platform.grants();
    let grants = grants.lend("invoices", "crm").unwrap();
    let grants = grants
        .allow("invoices", "crm", &platform.api.url(""))
        .unwrap();
    let grants = grants
        .allow("invoices", "bank", &platform.elsewhere.url(""))
        .unwrap();
    let mut plugin = Plugin::start("invoices", &grants).await;
    let url = platform.api.url("/echo");
    let authorization = plugin.authorization("crm", &url).await.unwrap();
    assert_eq!(authorization, format!("Bearer {TOKEN}"));
    let url = platform.elsewhere.url("/echo");
    let refused = plugin.authorization("crm", &url).await.unwrap_err();
    assert!(
        refused.contains("may not use crm for that URL"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_thief_that_was_lent_a_connection_learns_its_token_and_does_no_harm() {
    let platform = Platform::start();
    let grants = platform.grants().lend("thief", "crm").unwrap();
    let mut thief = Plugin::start("thief", &grants).await;
    assert_eq!(thief.token("crm").await.unwrap(), TOKEN);
    let elsewhere = platform.elsewhere.authority();
    let attempts = thief.steal_by_connections("crm", "bank", &elsewhere).await;
    assert_eq!(attempts.len(), 16, "{attempts:#?}");
    for attempt in &attempts {
        let refused = attempt.outcome.as_ref().unwrap_err();
        assert!(refused.starts_with("forbidden: "), "{attempt:?}");
        assert!(!refused.contains("hunter2"), "{attempt:?}");
    }
    assert!(platform.elsewhere.requests().is_empty());
    // Nothing was cleared or renewed: the token is the same, and no other was asked for.
    assert_eq!(thief.token("crm").await.unwrap(), TOKEN);
    assert_eq!(platform.api.requests_to("/token").len(), 1);
}

#[tokio::test]
async fn a_plugin_that_was_lent_nothing_opens_nothing() {
    let platform = Platform::start();
    let grants = platform.grants_to("invoices");
    let mut plugin = Plugin::start("invoices", &grants).await;
    let refused = plugin.token("crm").await.unwrap_err();
    assert!(
        refused.contains("was not lent the connection crm"),
        "{refused}"
    );
}
