//! A host: the component, and what stands behind its imports.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::Instance;

use crate::connection::Connection;
use crate::contract::bindings::exports::tokenwell::oauth2::connections::Guest as Connections;
use crate::contract::{Config, Provider, ProviderSummary};
use crate::engine::{Limits, Placed, Runtime};
use crate::error::{BuildError, Error};
use crate::events::{EventSink, Sinks};
use crate::http_client::{DEFAULT_TIMEOUT, Egress, GuestHttp, HttpClients, Reach, Rules};
use crate::imports::Services;
use crate::network::NetworkPolicy;
use crate::queue::{Places, Servers};
use crate::secrets::{LocalSecrets, Secrets};
use crate::store::{FileStore, MemoryStore, TokenStore};
use crate::telemetry;
use crate::underway::Progress;
use crate::user_agent::{NoUser, UserAgent};

/// Runs the component for any number of connections. Cheap to clone; clones
/// share everything.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    services: Arc<Services>,
}

impl Host {
    /// Begins a host that keeps everything in memory and has no user before it.
    ///
    /// ```
    /// # fn run() -> Result<(), tokenwell::BuildError> {
    /// let host = tokenwell::Host::builder()
    ///     .events(|event: tokenwell::Event| eprintln!("{}: {}", event.connection, event.message))
    ///     .build()?;
    /// # let _ = host;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Begins a host that keeps its connections' tokens in a directory, and the key
    /// that seals them in the keyring, or where there is none in a file beside them:
    /// [`FileStore`] and [`LocalSecrets`].
    pub fn in_directory(dir: impl Into<PathBuf>) -> HostBuilder {
        let dir = dir.into();
        let store: Arc<dyn TokenStore> = Arc::new(FileStore::new(&dir));
        Self::builder()
            .store(Arc::clone(&store))
            .secrets(LocalSecrets::in_directory(dir).with_store(store))
    }

    /// A connection of that name. Nothing is read or sent yet, and the config
    /// may be incomplete; the name is judged by the first call.
    pub fn connection(&self, name: &str, config: Config) -> Connection {
        Connection::new(self.clone(), name, config)
    }

    /// Reads a config from its JSON form.
    ///
    /// # Errors
    /// [`Error::NotConfigured`] with every problem at once; [`Error::Internal`].
    pub async fn parse_config(&self, json: &str) -> Result<Config, Error> {
        let parsing = self.call(Reach::Nowhere, async |component, store| {
            component.call_parse_config(store, json).await
        });
        parsing.await?.map_err(Error::NotConfigured)
    }

    /// Writes a config in its JSON form; fields at their defaults are left out.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn format_config(&self, config: &Config) -> Result<String, Error> {
        self.call(Reach::Nowhere, async |component, store| {
            component.call_format_config(store, config).await
        })
        .await
    }

    /// The metadata of the protected resource that a URL belongs to (RFC 9728), as
    /// JSON: `authorization_servers` names the issuers it takes tokens of. The
    /// URL is called without a token.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn discover_resource(&self, url: &str) -> Result<String, Error> {
        let discovering = self.call(Reach::Anywhere, async |component, store| {
            component.call_discover_resource(store, url).await
        });
        Ok(discovering.await??)
    }

    /// Registers a client at the authorization server of an issuer (RFC 7591),
    /// with its metadata as JSON, and gives the server's answer, `client_id` and
    /// secrets included, as JSON. Nothing is stored.
    ///
    /// # Errors
    /// As [`Error`] has them.
    pub async fn register_client(
        &self,
        issuer: &str,
        metadata: &str,
        initial_access_token: Option<&str>,
    ) -> Result<String, Error> {
        let egress = Egress::of_issuer(issuer, DEFAULT_TIMEOUT);
        let rules = Arc::new(Rules::of_requests_to(egress));
        let reach = Reach::By(Box::new(move || Arc::clone(&rules)));
        let registering = self.call(reach, async |component, store| {
            component
                .call_register_client(store, issuer, metadata, initial_access_token)
                .await
        });
        Ok(registering.await??)
    }

    /// The providers of the catalogue, in the order of their identifiers.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn list_providers(&self) -> Result<Vec<ProviderSummary>, Error> {
        self.call(Reach::Nowhere, async |component, store| {
            component.call_list_providers(store).await
        })
        .await
    }

    /// One provider; `None` where the catalogue has none of that identifier.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub async fn show_provider(&self, id: &str) -> Result<Option<Provider>, Error> {
        self.call(Reach::Nowhere, async |component, store| {
            component.call_show_provider(store, id).await
        })
        .await
    }

    /// Makes a call in a fresh instance of the component, about what concerns no
    /// connection.
    async fn call<T>(
        &self,
        reach: Reach,
        make: impl AsyncFnOnce(&Connections, &mut Placed) -> wasmtime::Result<T>,
    ) -> Result<T, Error> {
        let progress = Arc::<Progress>::default();
        let http = GuestHttp::new(
            self.services().http.anonymous(),
            reach,
            Arc::clone(&progress),
        );
        let calling = async {
            let (instance, mut store) = self.instance(http, Places::default()).await?;
            let component = self.runtime().exports(&mut store, &instance)?;
            Ok(make(component.tokenwell_oauth2_connections(), &mut store).await?)
        };
        progress.measure(calling).await
    }

    /// A fresh instance of the component that sends in that way.
    pub(crate) async fn instance(
        &self,
        http: GuestHttp,
        places: Places,
    ) -> Result<(Instance, Placed), Error> {
        let services = Arc::clone(&self.inner.services);
        Ok(self.runtime().instantiate(services, http, places).await?)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    pub(crate) fn services(&self) -> &Services {
        &self.inner.services
    }
}

/// Says what a host is made of.
#[derive(Default)]
pub struct HostBuilder {
    store: Option<Box<dyn TokenStore>>,
    secrets: Option<Box<dyn Secrets>>,
    events: Sinks,
    user_agent: Option<Box<dyn UserAgent>>,
    component: Option<Vec<u8>>,
    network: NetworkPolicy,
    limits: Limits,
}

impl HostBuilder {
    /// Where records are kept; by default in memory.
    #[must_use]
    pub fn store(mut self, store: impl TokenStore) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Where secrets and keys come from; by default the sealing key lives as
    /// long as the host, and references to environment variables, files and the
    /// keyring are resolved: a host that takes configs of others has to bring its
    /// own.
    #[must_use]
    pub fn secrets(mut self, secrets: impl Secrets) -> Self {
        self.secrets = Some(Box::new(secrets));
        self
    }

    /// What becomes of events, beside what [`telemetry`] tells of them; by
    /// default nothing. Given more than once, each sink is told of each event.
    #[must_use]
    pub fn events(mut self, events: impl EventSink) -> Self {
        self.events.add(events);
        self
    }

    /// How the user is reached; by default there is none.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl UserAgent) -> Self {
        self.user_agent = Some(Box::new(user_agent));
        self
    }

    /// What connections may do on the network; by default as [`NetworkPolicy`]
    /// has it.
    #[must_use]
    pub fn network(mut self, policy: NetworkPolicy) -> Self {
        self.network = policy;
        self
    }

    /// What an instance of the component may have; by default as [`Limits`] has
    /// it.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Another component than the one in the library: the bytes of one for the
    /// world `tokenwell:oauth2/interactive-connection`.
    #[must_use]
    pub fn component(mut self, component: Vec<u8>) -> Self {
        self.component = Some(component);
        self
    }

    /// Loads the component; one that is not compiled in this build is compiled
    /// now, which takes a fraction of a second.
    ///
    /// # Errors
    /// As [`BuildError`] has them.
    pub fn build(self) -> Result<Host, BuildError> {
        telemetry::describe();
        let secrets = match (self.secrets, &self.store) {
            (Some(secrets), _) => secrets,
            (None, None) => Box::new(LocalSecrets::in_memory()),
            (None, Some(_)) => return Err(BuildError::NoSecrets),
        };
        let services = Services {
            store: Arc::from(self.store.unwrap_or_else(|| Box::new(MemoryStore::new()))),
            secrets,
            events: Arc::new(self.events),
            user_agent: self.user_agent.unwrap_or_else(|| Box::new(NoUser)),
            http: HttpClients::new(self.network.clone()),
            policy: self.network,
            servers: Servers::sharing(self.limits.instances.get() as usize),
        };
        Ok(Host {
            inner: Arc::new(Inner {
                runtime: Runtime::new(self.component.as_deref(), self.limits)?,
                services: Arc::new(services),
            }),
        })
    }
}
