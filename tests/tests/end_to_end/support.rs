//! The connections that the tests speak of.

use serde_json::{Value, json};
use tokenwell_tests::{Answer, Cli, Decision, OidcProvider, ScriptedServer, query_parameter};

/// The client's secret at the scripted server.
pub const SECRET: &str = "client-secret-4c1f";
/// The authorization code that the scripted server is said to have issued.
pub const CODE: &str = "authorization-code-d81a";
/// A redirect URI that no listener of the client's can be on.
pub const REDIRECT_URI: &str = "https://client.example/oauth2";

/// An authorization under way.
pub struct Begun {
    pub authorization_url: String,
    pub redirect_uri: String,
    pub state: String,
}

impl Begun {
    /// Reads the first line of `authorize --no-browser --json`.
    pub fn from_line(line: &Value) -> Self {
        let text = |name: &str| match line[name].as_str() {
            Some(text) => text.to_owned(),
            None => panic!("there is no {name} in {line}"),
        };
        let authorization_url = text("authorization_url");
        let state = query_parameter(&authorization_url, "state");
        Self {
            redirect_uri: text("redirect_uri"),
            authorization_url,
            state,
        }
    }

    /// A redirect with these parameters.
    pub fn redirect(&self, parameters: &[(&str, &str)]) -> String {
        let mut url = url::Url::parse(&self.redirect_uri).expect("the redirect URI is a URL");
        url.query_pairs_mut().extend_pairs(parameters);
        url.into()
    }

    /// The redirect of a server that issued [`CODE`].
    pub fn success(&self) -> String {
        self.redirect(&[("code", CODE), ("state", &self.state)])
    }
}

/// Begins an authorization in a process that has ended when this returns.
pub fn begin(cli: &Cli, name: &str) -> Begun {
    let mut call = cli.start(&["authorize", name, "--no-browser", "--json"]);
    let begun = Begun::from_line(&call.next_json());
    call.finish().expect_code(0);
    begun
}

/// The config of a connection to the scripted server.
pub fn scripted_config(server: &ScriptedServer) -> Value {
    json!({
        "client_id": "client",
        "client_secret": SECRET,
        "authorization_endpoint": server.url("/authorize"),
        "token_endpoint": server.url("/token"),
        "redirect_uri": REDIRECT_URI,
        "scope": "read",
    })
}

/// The same with some fields set otherwise.
pub fn with(mut config: Value, fields: Value) -> Value {
    let (Some(config_fields), Value::Object(fields)) = (config.as_object_mut(), fields) else {
        panic!("a config is an object");
    };
    config_fields.extend(fields);
    config
}

/// The token response of that number.
pub fn tokens(number: u32, expires_in: u32) -> Value {
    json!({
        "access_token": access_token(number),
        "refresh_token": refresh_token(number),
        "token_type": "Bearer",
        "expires_in": expires_in,
        "scope": "read",
    })
}

/// The access token in [`tokens`].
pub fn access_token(number: u32) -> String {
    format!("access-token-{number}-9e07")
}

/// The refresh token in [`tokens`].
pub fn refresh_token(number: u32) -> String {
    format!("refresh-token-{number}-b3c5")
}

/// A connection `shop`, authorized at a scripted server, which has issued the
/// tokens of number 1.
pub fn authorized_shop(
    config: impl FnOnce(Value) -> Value,
    expires_in: u32,
) -> (Cli, ScriptedServer) {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    cli.create("shop", &config(scripted_config(&server)))
        .expect_code(0);
    let begun = begin(&cli, "shop");
    server.answer("/token", Answer::json(200, &tokens(1, expires_in)));
    cli.run(&["complete", "shop", &begun.success(), "--json"])
        .expect_code(0);
    (cli, server)
}

/// The config of a confidential client of the real server.
pub fn web_config(provider: &OidcProvider) -> Value {
    json!({
        "issuer": provider.issuer(),
        "client_id": "web-basic",
        "client_secret": "web-basic-secret-3f1c",
        "redirect_uri": REDIRECT_URI,
        "scope": "openid api:read",
    })
}

/// A connection `web`, authorized at the real server.
pub fn authorized_web(provider: &OidcProvider) -> Cli {
    let cli = Cli::new();
    cli.create("web", &web_config(provider)).expect_code(0);
    let begun = begin(&cli, "web");
    let redirect = provider.decide(&begun.authorization_url, Decision::Consent);
    cli.run(&["complete", "web", &redirect]).expect_code(0);
    cli
}

/// A text in JSON.
#[track_caller]
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("there is no text {name} in {value}"))
}

/// A private key in a file beside the configs, and a reference to it.
pub fn key_file(cli: &Cli, name: &str, content: &str) -> Value {
    std::fs::create_dir_all(cli.directory()).expect("a directory");
    std::fs::write(cli.directory().join(name), content).expect("a key can be written");
    json!({ "ref": format!("file:{name}") })
}
