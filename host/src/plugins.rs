//! What plugins may do with connections: use a token that they never see, or be
//! lent the connection.

mod injection;
mod lending;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Uri;

use crate::connection::Connection;
use crate::http_client::Origin;

pub use injection::PluginHttp;
pub use lending::{LentConnection, PluginConnections, PluginConnectionsView};

/// Which plugin may use which connection for which origin. Cheap to clone.
///
/// ```no_run
/// # async fn run(host: tokenwell::Host, config: tokenwell::Config) -> Result<(), tokenwell::GrantError> {
/// use tokenwell::Grants;
///
/// let crm = host.connection("crm", config);
/// let grants = Grants::of(["invoices", "reports"], [crm])
///     .allow("invoices", "crm", "https://api.crm.example")? // uses the token, never sees it
///     .lend("reports", "crm")?; // may ask for the token itself
/// let hooks = grants.hooks("invoices")?; // for the plugin's `WasiHttpCtxView`
/// let lent = grants.connections("reports")?; // for its `PluginConnectionsView`
/// # let _ = (hooks, lent);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Grants {
    plugins: BTreeSet<String>,
    connections: BTreeMap<String, Connection>,
    rules: BTreeMap<String, Vec<Rule>>,
    /// The connections that a plugin may open.
    lent: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone)]
struct Rule {
    origin: Origin,
    connection: Connection,
}

/// A grant that names what there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// There is no plugin of that name.
    #[error("there is no plugin {found}; there are: {known}")]
    UnknownPlugin {
        /// The name.
        found: String,
        /// Those that there are.
        known: String,
    },
    /// There is no connection of that name.
    #[error("there is no connection {found}; there are: {known}")]
    UnknownConnection {
        /// The name.
        found: String,
        /// Those that there are.
        known: String,
    },
    /// That is no origin.
    #[error(
        "{found} is no origin: {problem}; expected scheme, host and port alone, such as https://api.example.com"
    )]
    NoOrigin {
        /// What was given.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Grants {
    /// Begins with the plugins and the connections that grants may name; nothing
    /// is granted yet.
    pub fn of<P: Into<String>>(
        plugins: impl IntoIterator<Item = P>,
        connections: impl IntoIterator<Item = Connection>,
    ) -> Self {
        let named = |connection: Connection| (connection.name().to_owned(), connection);
        Self {
            plugins: plugins.into_iter().map(Into::into).collect(),
            connections: connections.into_iter().map(named).collect(),
            rules: BTreeMap::new(),
            lent: BTreeMap::new(),
        }
    }

    /// Lets a plugin use a connection for an origin: `https://HOST` or
    /// `https://HOST:PORT` exactly, `http` on the loopback interface alone. Where
    /// the plugin has a connection for that origin, this one takes its place.
    ///
    /// # Errors
    /// Names what there is not, or no origin.
    pub fn allow(
        mut self,
        plugin: &str,
        connection: &str,
        origin: &str,
    ) -> Result<Self, GrantError> {
        self.expect_plugin(plugin)?;
        let connection = self.expect_connection(connection)?.clone();
        let no_origin = |problem| GrantError::NoOrigin {
            found: origin.to_owned(),
            problem,
        };
        let origin = Origin::parse(origin).map_err(no_origin)?;
        let rules = self.rules.entry(plugin.to_owned()).or_default();
        rules.retain(|rule| rule.origin != origin);
        rules.push(Rule { origin, connection });
        Ok(self)
    }

    /// Lets a plugin see the tokens of a connection: it may open the connection
    /// through [`PluginConnections`]. For the requests that the host sends for it,
    /// [`allow`](Self::allow) is enough.
    ///
    /// # Errors
    /// Names what there is not.
    pub fn lend(mut self, plugin: &str, connection: &str) -> Result<Self, GrantError> {
        self.expect_plugin(plugin)?;
        self.expect_connection(connection)?;
        let lent = self.lent.entry(plugin.to_owned()).or_default();
        lent.insert(connection.to_owned());
        Ok(self)
    }

    fn expect_connection(&self, name: &str) -> Result<&Connection, GrantError> {
        self.connections.get(name).ok_or_else(|| {
            let known: Vec<_> = self.connections.keys().cloned().collect();
            GrantError::UnknownConnection {
                found: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    fn expect_plugin(&self, plugin: &str) -> Result<(), GrantError> {
        if self.plugins.contains(plugin) {
            return Ok(());
        }
        let known: Vec<_> = self.plugins.iter().cloned().collect();
        Err(GrantError::UnknownPlugin {
            found: plugin.to_owned(),
            known: known.join(", "),
        })
    }

    /// What sends a plugin's requests: for the `hooks` of its
    /// [`WasiHttpCtxView`](wasmtime_wasi_http::WasiHttpCtxView). A request to an
    /// origin that the plugin has a connection for gets its token; every other is
    /// refused. Redirects are not followed.
    ///
    /// # Errors
    /// There is no such plugin.
    pub fn hooks(&self, plugin: &str) -> Result<PluginHttp, GrantError> {
        self.expect_plugin(plugin)?;
        Ok(PluginHttp {
            plugin: plugin.into(),
            rules: self.rules_of(plugin),
        })
    }

    /// What a plugin has of the contract's interface `connections`: the
    /// connections that it was lent, and no others.
    ///
    /// # Errors
    /// There is no such plugin.
    pub fn connections(&self, plugin: &str) -> Result<PluginConnections, GrantError> {
        self.expect_plugin(plugin)?;
        let lent = self.lent.get(plugin).into_iter().flatten();
        let lent =
            lent.filter_map(|name| Some((name.clone(), self.connections.get(name)?.clone())));
        let any = self.connections.values().next();
        Ok(PluginConnections {
            host: any.map(|connection| connection.host().clone()),
            lent: lent.collect(),
            rules: self.rules_of(plugin),
        })
    }

    fn rules_of(&self, plugin: &str) -> Arc<[Rule]> {
        let rules = self.rules.get(plugin);
        rules.map(Vec::as_slice).unwrap_or_default().into()
    }
}

/// The rule for a request. User information has no place in a URL (RFC 9110
/// section 4.2.4), and a host before it would deceive whoever reads it.
fn rule_for<'a>(rules: &'a [Rule], uri: &Uri) -> Option<&'a Rule> {
    if uri.authority()?.as_str().contains('@') {
        return None;
    }
    let origin = Origin::of(uri)?;
    rules.iter().find(|rule| rule.origin == origin)
}
