//! A component of the same world as Tokenwell's own, that does what a host must
//! withstand: which of it, the name of the connection says.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "tokenwell:oauth2/interactive-connection",
        generate_all,
    });
}

use bindings::exports::tokenwell::oauth2::connections::{
    Connection, ConnectionBorrow, Guest, GuestConnection,
};
use bindings::exports::tokenwell::oauth2::interactive;
use bindings::tokenwell::oauth2::types::{
    AuthorizationOptions, Config, ConnectionState, DeviceAuthorization, DevicePoll, Error,
    ErrorKind, Event, Parameter, PendingAuthorization, Problem, Provider, ProviderSummary,
    Redirect, ResolvedField, Status, Token, TokenOptions,
};
use bindings::tokenwell::oauth2::{events, token_store};
use bindings::wasi::http::types::Fields;

struct Hostile;

bindings::export!(Hostile with_types_in bindings);

/// A connection that misbehaves when it is asked where it stands.
struct Misbehaving(String);

impl GuestConnection for Misbehaving {
    fn open(name: String, _: Config) -> Result<Connection, Error> {
        Ok(Connection::new(Self(name)))
    }

    fn status(&self) -> Result<Status, Error> {
        match self.0.as_str() {
            "well-behaved" => {}
            "loops" => loop {
                std::hint::spin_loop();
            },
            "allocates" => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 16]);
                }
            }
            "traps" => panic!("on purpose"),
            "recurses" => {
                std::hint::black_box(deeper(0));
            }
            "hoards" => {
                let mut all = Vec::new();
                loop {
                    all.push(Fields::new());
                }
            }
            "chatters" => loop {
                events::emit(&event(&self.0));
            },
            "keeps-a-lease" => {
                let lease = token_store::acquire_lease(&self.0, 600_000, 0);
                std::mem::forget(lease);
                panic!("with the lease in hand");
            }
            other => return Err(error(format!("it does not know how to be {other}"))),
        }
        Ok(Status {
            state: ConnectionState::Authorized,
            expires_at: None,
            refreshable: false,
            refresh_expires_at: None,
            scope: Vec::new(),
            authorized_at: None,
            last_renewal: None,
            next_retry_at: None,
            warnings: Vec::new(),
        })
    }

    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn resolve(&self) -> Result<Vec<ResolvedField>, Error> {
        nothing()
    }

    fn token(&self, _: TokenOptions) -> Result<Token, Error> {
        nothing()
    }

    fn authorization_headers(
        &self,
        _: String,
        _: String,
        _: TokenOptions,
        _: Option<String>,
    ) -> Result<Vec<Parameter>, Error> {
        nothing()
    }

    fn response_json(&self) -> Result<String, Error> {
        nothing()
    }

    fn begin_authorization(&self, _: AuthorizationOptions) -> Result<PendingAuthorization, Error> {
        nothing()
    }

    fn complete_authorization(&self, _: Redirect) -> Result<(), Error> {
        nothing()
    }

    fn begin_device_authorization(&self) -> Result<DeviceAuthorization, Error> {
        nothing()
    }

    fn poll_device_authorization(&self) -> Result<DevicePoll, Error> {
        nothing()
    }

    fn refresh(&self) -> Result<Token, Error> {
        nothing()
    }

    fn clear(&self) -> Result<(), Error> {
        nothing()
    }

    fn revoke(&self) -> Result<(), Error> {
        nothing()
    }

    fn introspect(&self) -> Result<String, Error> {
        nothing()
    }

    fn userinfo(&self) -> Result<String, Error> {
        nothing()
    }

    fn history(&self) -> Result<Vec<Event>, Error> {
        nothing()
    }

    fn reseal(&self) -> Result<(), Error> {
        nothing()
    }
}

/// Uses up the stack.
#[expect(unconditional_recursion, reason = "on purpose")]
fn deeper(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    deeper(depth + 1) + here[0]
}

fn event(connection: &str) -> Event {
    Event {
        at: 0,
        connection: connection.to_owned(),
        kind: "chatter".to_owned(),
        message: "and another thing".to_owned(),
        details: Vec::new(),
    }
}

#[expect(clippy::result_large_err, reason = "it is the contract's")]
fn nothing<T>() -> Result<T, Error> {
    Err(error("it only has a status".to_owned()))
}

fn error(message: String) -> Error {
    Error {
        kind: ErrorKind::Unsupported,
        message,
        problems: Vec::new(),
        server_error: None,
        retry_at: None,
        violation: None,
        storage: None,
    }
}

impl Guest for Hostile {
    type Connection = Misbehaving;

    fn list_providers() -> Vec<ProviderSummary> {
        Vec::new()
    }

    fn show_provider(_: String) -> Option<Provider> {
        None
    }

    fn parse_config(_: String) -> Result<Config, Vec<Problem>> {
        Err(Vec::new())
    }

    fn format_config(_: Config) -> String {
        String::new()
    }

    fn discover_resource(_: String) -> Result<String, Error> {
        nothing()
    }

    fn register_client(_: String, _: String, _: Option<String>) -> Result<String, Error> {
        nothing()
    }
}

impl interactive::Guest for Hostile {
    fn authorize(_: ConnectionBorrow<'_>, _: interactive::AuthorizeOptions) -> Result<(), Error> {
        nothing()
    }
}
