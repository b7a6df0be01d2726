//! The benchmarks. Whatever is compared is measured side by side in one run, and
//! by turns, so that whatever else the machine does meets both sides; only the
//! smallest are Criterion's, which measures one after the other. What is given are
//! medians. `cargo xtask bench` runs them and makes a table of it.

mod allocations;
mod exchange;
mod fleet;
mod injection;
mod native;
mod report;
mod server;
mod small;
mod together;

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tokenwell::{Connection, Host, LocalSecrets, MemoryStore, TokenStore};

use native::Native;
use report::Group;
use server::Server;

/// Whatever goes wrong ends the run.
type Failure = Box<dyn Error + Send + Sync>;

const CLIENT_ID: &str = "bench";
const CLIENT_SECRET: &str = "bench-secret-0123456789";
const SCOPE: &str = "contacts:read";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let done = match (arguments.next(), arguments.next()) {
        (None, _) => measure(),
        // How `small` calls this program.
        (Some(option), Some(directory)) if option == "--criterion" => {
            small::estimate(directory.as_ref())
        }
        (Some(_), _) => Err("`cargo xtask bench` runs this program, without arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything, and prints it as JSON.
fn measure() -> Result<(), Failure> {
    let say = |what: &str| eprintln!("Measuring {what}");
    say("tokens at hand, and new instances");
    let mut groups = vec![small::measure()?];
    say("round trips of client credentials");
    groups.push(exchange::measure()?);
    say("1 to 100,000 connections in one host");
    groups.extend(fleet::measure()?);
    say("10,000 connections that expire together");
    groups.push(together::measure()?);
    say("what injection adds to a plugin's request");
    groups.push(injection::measure()?);
    let groups: Vec<_> = groups.iter().map(Group::json).collect();
    println!("{}", json!({ "groups": groups }));
    Ok(())
}

/// A host, and what it is compared with on the same store and keys.
struct Rig {
    store: Arc<dyn TokenStore>,
    host: Host,
    native: Native,
    config: String,
}

impl Rig {
    fn in_memory(server: &Server) -> Result<Self, Failure> {
        let secrets = LocalSecrets::in_memory();
        Self::new(Arc::new(MemoryStore::new()), secrets, server)
    }

    /// One with a store of its own and the keys of another.
    fn in_memory_like(other: &Self, server: &Server) -> Result<Self, Failure> {
        let secrets = other.native.secrets.clone();
        Self::new(Arc::new(MemoryStore::new()), secrets, server)
    }

    fn new(
        store: Arc<dyn TokenStore>,
        secrets: LocalSecrets,
        server: &Server,
    ) -> Result<Self, Failure> {
        let builder = Host::builder().store(Arc::clone(&store));
        // Nobody else vouches for the server's certificate.
        let tls = match server.certificate {
            Some(_) => "trust",
            None => "verify",
        };
        let origin = &server.origin;
        Ok(Self {
            host: builder.secrets(secrets.clone()).build()?,
            native: Native {
                store: Arc::clone(&store),
                secrets,
                http: native::http_client(server)?,
            },
            store,
            config: format!(
                r#"{{"grant_type":"client_credentials","token_endpoint":"{origin}/token","client_id":"{CLIENT_ID}","client_secret":"{CLIENT_SECRET}","scope":"{SCOPE}","tls":"{tls}"}}"#
            ),
        })
    }

    async fn connection(&self, name: &str) -> Result<Connection, Failure> {
        let config = self.host.parse_config(&self.config).await?;
        Ok(self.host.connection(name, config))
    }
}

/// The median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
