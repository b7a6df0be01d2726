//! A connection that is authorized at the real authorization server, its token
//! requests going through a relay.

use std::path::Path;

use tempfile::TempDir;
use tokenwell::{
    AuthorizationOptions, Connection, Error, Host, HostBuilder, Redirect, TokenOptions,
};
use tokenwell_tests::{Decision, Lifetimes, OidcProvider, Relay};

/// The name of the connection.
pub const NAME: &str = "crm";

/// The connection's surroundings.
pub struct Scene {
    pub provider: OidcProvider,
    pub relay: Relay,
    pub directory: TempDir,
    pub config: String,
}

impl Scene {
    /// Absent where the machine is known to lack Node.
    pub fn new() -> Option<Self> {
        let provider = OidcProvider::start(Lifetimes::default())?;
        let relay = Relay::start(&provider);
        let config = serde_json::json!({
            "issuer": provider.issuer(),
            "token_endpoint": relay.token_endpoint(),
            "client_id": "web-basic",
            "client_secret": "web-basic-secret-3f1c",
            "redirect_uri": "https://client.example/oauth2",
            "scope": "openid api:read",
        });
        Some(Self {
            provider,
            relay,
            directory: TempDir::new().unwrap(),
            config: config.to_string(),
        })
    }

    pub fn host(&self) -> Host {
        built(Host::in_directory(self.directory.path()))
    }

    pub async fn connection(&self, host: &Host) -> Connection {
        connection(host, &self.config).await
    }

    /// Authorizes the connection, anew where it was before.
    pub async fn authorize(&self, connection: &Connection) {
        let pending = connection
            .begin_authorization(AuthorizationOptions::default())
            .await
            .unwrap();
        // The pages are visited by a blocking client.
        let redirect = tokio::task::block_in_place(|| {
            self.provider
                .decide(&pending.authorization_url, Decision::Consent)
        });
        connection
            .complete_authorization(Redirect::Url(redirect))
            .await
            .unwrap();
    }
}

pub fn built(builder: HostBuilder) -> Host {
    builder.build().unwrap()
}

pub async fn connection(host: &Host, config: &str) -> Connection {
    let config = host.parse_config(config).await.unwrap();
    host.connection(NAME, config)
}

/// How a renewal after a fault went.
#[derive(Debug, PartialEq)]
pub enum Recovery {
    /// By itself.
    Renewed,
    /// The user is needed, and the cause that is told is the true one.
    Interrupted,
}

/// Renews after a fault.
pub async fn recover(connection: &Connection) -> Recovery {
    match connection.refresh().await {
        Ok(_) => {}
        Err(Error::ReauthorizationRequired(cause)) => {
            assert!(cause.reason.contains("interrupted"), "{}", cause.reason);
            let history = connection.history().await.unwrap();
            let is_told = history
                .iter()
                .any(|event| event.kind == "renewal-interrupted");
            assert!(is_told, "{history:?}");
            return Recovery::Interrupted;
        }
        Err(error) => panic!("{error:?}"),
    }
    let token = connection.token(TokenOptions::default()).await.unwrap();
    assert!(!token.access_token.is_empty());
    Recovery::Renewed
}

/// Everything in a store's directory that must be whole is.
pub fn assert_nothing_is_torn(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() || name.ends_with(".tmp") {
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        let json: Result<serde_json::Value, _> = serde_json::from_slice(&content);
        assert!(json.is_ok(), "{} is torn", path.display());
    }
}
