//! Connections lent to plugins: the contract's interface `connections` in a
//! plugin's linker, for the plugins that are to see tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Uri;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{bail, format_err};

use crate::connection::Connection;
use crate::contract::lent_bindings::tokenwell::oauth2::connections;
use crate::contract::{
    AuthorizationOptions, Config, DeviceAuthorization, DevicePoll, Error as ConnectionError,
    ErrorKind, Event, Parameter, PendingAuthorization, Problem, Provider, ProviderSummary,
    Redirect, ResolvedField, Status, Token, TokenOptions,
};
use crate::host::Host;

use super::{Rule, rule_for};

/// The connections that a plugin was lent, for its linker.
///
/// A plugin opens a connection by its name and with an empty config, since the
/// config is the platform's. It may ask for the connection's `status`, `history`,
/// `token`, `userinfo` and what `introspect` and `check` tell, and for the
/// `authorization-headers` of requests to the origins that it was allowed.
/// A token that it says was refused is renewed for it at most once a minute.
/// Everything else is `forbidden`: what shows a refresh token or the config, what
/// authorizes, and what ends the connection.
///
/// ```no_run
/// # fn link(engine: &wasmtime::Engine) -> wasmtime::Result<()> {
/// use tokenwell::{PluginConnections, PluginConnectionsView};
/// use wasmtime::component::{Linker, ResourceTable};
///
/// struct Plugin {
///     table: ResourceTable,
///     connections: PluginConnections, // of `Grants::connections`
/// }
///
/// let mut linker = Linker::<Plugin>::new(engine);
/// PluginConnections::add_to_linker(&mut linker, |plugin| PluginConnectionsView {
///     connections: &mut plugin.connections,
///     table: &mut plugin.table,
/// })?;
/// # Ok(())
/// # }
/// ```
pub struct PluginConnections {
    /// For what concerns no connection; none where the platform has none.
    pub(super) host: Option<Host>,
    pub(super) lent: BTreeMap<String, Connection>,
    pub(super) rules: Arc<[Rule]>,
}

/// Where a plugin's store has what it was lent.
pub struct PluginConnectionsView<'a> {
    /// What it was lent.
    pub connections: &'a mut PluginConnections,
    /// The plugin's resources.
    pub table: &'a mut ResourceTable,
}

impl PluginConnections {
    /// Adds the interface `connections` to a linker. The plugin's store must be
    /// one for asynchronous calls.
    ///
    /// # Errors
    /// Where the linker has such an interface already.
    pub fn add_to_linker<T: Send + 'static>(
        linker: &mut Linker<T>,
        view: fn(&mut T) -> PluginConnectionsView<'_>,
    ) -> wasmtime::Result<()> {
        connections::add_to_linker::<T, HasConnections>(linker, view)
    }

    fn host(&self) -> wasmtime::Result<&Host> {
        let host = self.host.as_ref();
        host.ok_or_else(|| format_err!("the platform has no connections to lend"))
    }
}

struct HasConnections;

impl HasData for HasConnections {
    type Data<'a> = PluginConnectionsView<'a>;
}

/// A connection in the hands of a plugin.
pub struct LentConnection(Connection);

type Answer<T> = wasmtime::Result<Result<T, ConnectionError>>;

impl PluginConnectionsView<'_> {
    fn opened(&self, connection: &Resource<LentConnection>) -> wasmtime::Result<&Connection> {
        Ok(&self.table.get(connection)?.0)
    }
}

fn forbidden(message: String) -> ConnectionError {
    ConnectionError::new(ErrorKind::Forbidden, message)
}

/// What a plugin asks of a token, without what would have it renewed more often
/// than plugins may.
pub(super) fn within_bounds(mut options: TokenOptions, connection: &Connection) -> TokenOptions {
    let rejected = options.rejected;
    options.rejected = rejected.filter(|_| connection.may_be_renewed_for_plugins());
    options
}

/// What only the platform does.
fn for_the_platform<T>(what: &str) -> Answer<T> {
    Ok(Err(forbidden(format!("{what} is for the platform to do"))))
}

impl connections::Host for PluginConnectionsView<'_> {
    async fn list_providers(&mut self) -> wasmtime::Result<Vec<ProviderSummary>> {
        Ok(self.connections.host()?.list_providers().await?)
    }

    async fn show_provider(&mut self, id: String) -> wasmtime::Result<Option<Provider>> {
        Ok(self.connections.host()?.show_provider(&id).await?)
    }

    async fn parse_config(
        &mut self,
        json: String,
    ) -> wasmtime::Result<Result<Config, Vec<Problem>>> {
        match self.connections.host()?.parse_config(&json).await {
            Ok(config) => Ok(Ok(config)),
            Err(crate::Error::NotConfigured(problems)) => Ok(Err(problems)),
            Err(error) => bail!(error),
        }
    }

    async fn format_config(&mut self, config: Config) -> wasmtime::Result<String> {
        Ok(self.connections.host()?.format_config(&config).await?)
    }

    async fn discover_resource(&mut self, _: String) -> Answer<String> {
        for_the_platform("discovering a resource")
    }

    async fn register_client(&mut self, _: String, _: String, _: Option<String>) -> Answer<String> {
        for_the_platform("registering a client")
    }
}

impl connections::HostConnection for PluginConnectionsView<'_> {
    async fn open(&mut self, name: String, config: Config) -> Answer<Resource<LentConnection>> {
        let Some(lent) = self.connections.lent.get(&name) else {
            return Ok(Err(forbidden(format!(
                "the plugin was not lent the connection {name}"
            ))));
        };
        if config != Config::default() {
            return Ok(Err(forbidden(format!(
                "the config of {name} is the platform's: open it with an empty one"
            ))));
        }
        Ok(Ok(self.table.push(LentConnection(lent.clone()))?))
    }

    async fn check(
        &mut self,
        connection: Resource<LentConnection>,
    ) -> wasmtime::Result<Vec<Problem>> {
        Ok(self.opened(&connection)?.check().await?)
    }

    async fn resolve(&mut self, _: Resource<LentConnection>) -> Answer<Vec<ResolvedField>> {
        for_the_platform("reading the config")
    }

    async fn status(&mut self, connection: Resource<LentConnection>) -> Answer<Status> {
        Ok(self.opened(&connection)?.status().await.map_err(Into::into))
    }

    async fn token(
        &mut self,
        connection: Resource<LentConnection>,
        options: TokenOptions,
    ) -> Answer<Token> {
        let connection = self.opened(&connection)?;
        let token = connection.token(within_bounds(options, connection)).await;
        Ok(token.map_err(Into::into))
    }

    async fn authorization_headers(
        &mut self,
        connection: Resource<LentConnection>,
        method: String,
        url: String,
        options: TokenOptions,
        dpop_nonce: Option<String>,
    ) -> Answer<Vec<Parameter>> {
        let connection = self.opened(&connection)?;
        let uri = url.parse::<Uri>().ok();
        let rule = uri.and_then(|uri| rule_for(&self.connections.rules, &uri));
        if rule.is_none_or(|rule| rule.connection.name() != connection.name()) {
            return Ok(Err(forbidden(format!(
                "the plugin may not use {} for that URL",
                connection.name()
            ))));
        }
        let options = within_bounds(options, connection);
        let headers =
            connection.authorization_headers(&method, &url, options, dpop_nonce.as_deref());
        Ok(headers.await.map_err(Into::into))
    }

    async fn response_json(&mut self, _: Resource<LentConnection>) -> Answer<String> {
        for_the_platform("reading the token response")
    }

    async fn begin_authorization(
        &mut self,
        _: Resource<LentConnection>,
        _: AuthorizationOptions,
    ) -> Answer<PendingAuthorization> {
        for_the_platform("authorizing")
    }

    async fn complete_authorization(
        &mut self,
        _: Resource<LentConnection>,
        _: Redirect,
    ) -> Answer<()> {
        for_the_platform("authorizing")
    }

    async fn begin_device_authorization(
        &mut self,
        _: Resource<LentConnection>,
    ) -> Answer<DeviceAuthorization> {
        for_the_platform("authorizing")
    }

    async fn poll_device_authorization(
        &mut self,
        _: Resource<LentConnection>,
    ) -> Answer<DevicePoll> {
        for_the_platform("authorizing")
    }

    async fn refresh(&mut self, _: Resource<LentConnection>) -> Answer<Token> {
        for_the_platform("renewing a token that is fresh")
    }

    async fn clear(&mut self, _: Resource<LentConnection>) -> Answer<()> {
        for_the_platform("clearing")
    }

    async fn revoke(&mut self, _: Resource<LentConnection>) -> Answer<()> {
        for_the_platform("revoking")
    }

    async fn introspect(&mut self, connection: Resource<LentConnection>) -> Answer<String> {
        let told = self.opened(&connection)?.introspect().await;
        Ok(told.map_err(Into::into))
    }

    async fn userinfo(&mut self, connection: Resource<LentConnection>) -> Answer<String> {
        let claims = self.opened(&connection)?.userinfo().await;
        Ok(claims.map_err(Into::into))
    }

    async fn history(&mut self, connection: Resource<LentConnection>) -> Answer<Vec<Event>> {
        let history = self.opened(&connection)?.history().await;
        Ok(history.map_err(Into::into))
    }

    async fn reseal(&mut self, _: Resource<LentConnection>) -> Answer<()> {
        for_the_platform("sealing anew")
    }

    async fn drop(&mut self, connection: Resource<LentConnection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
