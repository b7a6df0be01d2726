//! The engine, the component compiled for it, and the limits of a call.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{
    Component, ComponentExportIndex, HasData, HasSelf, Instance, InstancePre, Linker, ResourceAny,
    ResourceTable,
};
use wasmtime::{
    AsContext, AsContextMut, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    Store, StoreContext, StoreContextMut, StoreLimits, StoreLimitsBuilder, UpdateDeadline,
};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::{clocks, io, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::contract::bindings::tokenwell::oauth2::{events, secrets, token_store, user_agent};
use crate::contract::bindings::{InteractiveConnection, InteractiveConnectionIndices};
use crate::contract::{Config, Error as ConnectionError, Token, TokenOptions};
use crate::embedded;
use crate::error::BuildError;
use crate::http_client::GuestHttp;
use crate::imports::Services;
use crate::queue::Places;
use crate::underway::Progress;
use crate::world::{self, CONNECTIONS};

/// How often a running guest gives way to other tasks.
const TICK: Duration = Duration::from_millis(10);

/// What an instance of the component may have of the host. Each call runs on an
/// instance of its own, so that what reaches a limit is that call alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most memory that one instance may have, in bytes; 64 MiB.
    pub memory: usize,
    /// For how long the component itself may compute during one call; 10
    /// seconds. The time that it waits for the host does not count.
    pub compute: Duration,
    /// How many instances there may be at once; 256. A call that finds none free
    /// waits for one, and the connections to one server have at most a quarter of
    /// them; an authorization holds one while it waits for its user. The
    /// address space for all of them is reserved when the
    /// host is built; memory is taken as it is used, and up to 1 MiB of it kept,
    /// cleared, for the next call.
    pub instances: NonZeroU32,
}

impl Limits {
    const INSTANCES: NonZeroU32 = NonZeroU32::new(256).unwrap();
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            compute: Duration::from_secs(10),
            instances: Self::INSTANCES,
        }
    }
}

/// The component, compiled and linked.
pub(crate) struct Runtime {
    pre: InstancePre<State>,
    exports: InteractiveConnectionIndices,
    /// What drawing a token takes.
    pub(crate) drawing: Drawing,
    ticker: Ticker,
    limits: Limits,
    free: Arc<Semaphore>,
}

impl Runtime {
    /// Of the component in this library, where no other is given.
    pub(crate) fn new(given: Option<&[u8]>, limits: Limits) -> Result<Self, BuildError> {
        let unfit = |e: wasmtime::Error| BuildError::Component(e.into());
        let engine = pooling_engine(&limits).map_err(unfit)?;
        let component = match given {
            Some(bytes) => {
                world::expect_component(bytes)?;
                let component = Component::new(&engine, bytes).map_err(unfit)?;
                world::expect_world(&component)?;
                component
            }
            None => embedded::component(&engine)?,
        };
        let pre = link(&component).map_err(unfit)?;
        Ok(Self {
            exports: InteractiveConnectionIndices::new(&pre).map_err(unfit)?,
            drawing: Drawing::of(&component).map_err(unfit)?,
            pre,
            ticker: Ticker::start(engine),
            limits,
            free: Arc::new(Semaphore::new(limits.instances.get() as usize)),
        })
    }

    /// A fresh instance in a store of its own, for a call that has these places.
    pub(crate) async fn instantiate(
        &self,
        services: Arc<Services>,
        http: GuestHttp,
        places: Places,
    ) -> wasmtime::Result<(Instance, Placed)> {
        let place = Arc::clone(&self.free).acquire_owned().await?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        let state = State {
            table,
            clocks: WasiClocksCtx::default(),
            random: WasiRandomCtx::default(),
            http: WasiHttpCtx::new(),
            guest_http: http,
            limits: StoreLimitsBuilder::new()
                .memory_size(self.limits.memory)
                .instances(INSTANCE_PARTS)
                .tables(INSTANCE_PARTS)
                .memories(INSTANCE_PARTS)
                .table_elements(TABLE_ELEMENTS)
                .build(),
            services,
            seen: None,
            _running: self.ticker.running(),
        };
        let mut store = Store::new(self.pre.component().engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        let most = self.limits.compute;
        store.epoch_deadline_callback(move |context| {
            Ok(if context.data().progress().computed() > most {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        let mut placed = Placed {
            store,
            _place: place,
            _places: places,
        };
        let instance = self.pre.instantiate_async(&mut placed.store).await?;
        Ok((instance, placed))
    }

    /// All that an instance exports.
    pub(crate) fn exports(
        &self,
        store: &mut Placed,
        instance: &Instance,
    ) -> wasmtime::Result<InteractiveConnection> {
        self.exports.load(store, instance)
    }
}

/// A store, and the places that it has among the instances. They are given back
/// when the store is gone, which is later than when its data is.
pub(crate) struct Placed {
    store: Store<State>,
    _place: OwnedSemaphorePermit,
    _places: Places,
}

impl AsContext for Placed {
    type Data = State;

    fn as_context(&self) -> StoreContext<'_, State> {
        self.store.as_context()
    }
}

impl AsContextMut for Placed {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, State> {
        self.store.as_context_mut()
    }
}

impl Placed {
    pub(crate) fn data(&self) -> &State {
        self.store.data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut State {
        self.store.data_mut()
    }
}

/// The two functions that drawing a token takes. The types of what is exported
/// are checked in each instance, and to check those of everything takes longer
/// than a token does.
pub(crate) struct Drawing {
    open: ComponentExportIndex,
    token: ComponentExportIndex,
}

impl Drawing {
    fn of(component: &Component) -> wasmtime::Result<Self> {
        let interface = component.get_export_index(None, CONNECTIONS);
        let function = |name: &str| {
            let found = component.get_export_index(interface.as_ref(), name);
            found.ok_or_else(|| wasmtime::format_err!("{CONNECTIONS} has no function {name}"))
        };
        Ok(Self {
            open: function("[static]connection.open")?,
            token: function("[method]connection.token")?,
        })
    }

    /// Opens a connection.
    pub(crate) async fn open(
        &self,
        store: &mut Placed,
        instance: &Instance,
        name: &str,
        config: &Config,
    ) -> wasmtime::Result<Result<ResourceAny, ConnectionError>> {
        type Opened = (Result<ResourceAny, ConnectionError>,);
        let open = instance.get_typed_func::<(&str, &Config), Opened>(&mut *store, &self.open)?;
        let (opened,) = open.call_async(store, (name, config)).await?;
        Ok(opened)
    }

    /// Draws a token.
    pub(crate) async fn token(
        &self,
        store: &mut Placed,
        instance: &Instance,
        connection: ResourceAny,
        options: &TokenOptions,
    ) -> wasmtime::Result<Result<Token, ConnectionError>> {
        type Drawn = (Result<Token, ConnectionError>,);
        let token = instance
            .get_typed_func::<(ResourceAny, &TokenOptions), Drawn>(&mut *store, &self.token)?;
        let (drawn,) = token.call_async(store, (connection, options)).await?;
        Ok(drawn)
    }
}

/// How many resources of the host's an instance may have at once; the component
/// has some twenty.
const RESOURCES: usize = 1000;

/// How many core instances, tables or memories an instance of a component may
/// consist of.
const INSTANCE_PARTS: usize = 8;

/// How many elements a table may have.
const TABLE_ELEMENTS: usize = 20_000;

/// An engine that keeps places for as many instances as there may be, so that
/// an instance is made and unmade in microseconds; on a machine that does not
/// give the address space, one that does without.
fn pooling_engine(limits: &Limits) -> wasmtime::Result<Engine> {
    let instances = limits.instances.get();
    let parts = instances.saturating_mul(PARTS_IN_USE);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(parts)
        .total_memories(instances)
        .total_tables(parts)
        .total_stacks(instances)
        .max_core_instances_per_component(INSTANCE_PARTS as u32)
        .max_tables_per_component(INSTANCE_PARTS as u32)
        .max_memory_size(limits.memory)
        // What a call has written is cleared when its place is given back. As
        // many bytes are cleared by writing to them; giving pages back to the
        // system and having them anew takes many times as long.
        .linear_memory_keep_resident(RESIDENT)
        .table_keep_resident(RESIDENT)
        .pagemap_scan(Enabled::Auto)
        .table_elements(TABLE_ELEMENTS);
    let mut config = configuration();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|_| Engine::new(&configuration()))
}

/// How much of its memory a place keeps while it is free: what a call uses.
const RESIDENT: usize = 1 << 20;

/// How many core instances and tables the places hold for each instance: the
/// component, what joins it to its imports, and one to spare.
const PARTS_IN_USE: u32 = 4;

/// The settings that components are compiled and run with.
pub(crate) fn configuration() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.concurrency_support(false).epoch_interruption(true);
    config
}

fn link(component: &Component) -> wasmtime::Result<InstancePre<State>> {
    linker(component.engine())?.instantiate_pre(component)
}

/// Everything that a component may import, and nothing else.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<State, Tables>(l, |s| &mut s.table)?;
    io::poll::add_to_linker::<State, Tables>(l, |s| &mut s.table)?;
    io::streams::add_to_linker::<State, Tables>(l, |s| &mut s.table)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, |s| &mut s.random)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    token_store::add_to_linker::<State, HasSelf<State>>(l, |s| s)?;
    secrets::add_to_linker::<State, HasSelf<State>>(l, |s| s)?;
    events::add_to_linker::<State, HasSelf<State>>(l, |s| s)?;
    user_agent::add_to_linker::<State, HasSelf<State>>(l, |s| s)?;
    Ok(linker)
}

/// What one instance has of the host. It ends with the call: leases are
/// released, requests aborted, listeners closed.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) services: Arc<Services>,
    /// The entry that the store was last asked for or given, and its version.
    pub(crate) seen: Option<(String, u64)>,
    clocks: WasiClocksCtx,
    random: WasiRandomCtx,
    http: WasiHttpCtx,
    pub(crate) guest_http: GuestHttp,
    limits: StoreLimits,
    _running: Running,
}

impl State {
    /// What is known of the call from outside.
    pub(crate) fn progress(&self) -> &Progress {
        self.guest_http.progress()
    }

    fn clocks(&mut self) -> WasiClocksCtxView<'_> {
        WasiClocksCtxView {
            ctx: &mut self.clocks,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.guest_http,
        }
    }
}

/// `wasi:io` needs the table alone.
struct Tables;

impl HasData for Tables {
    type Data<'a> = &'a mut ResourceTable;
}

/// Moves the engine's epoch on while calls are running, so that a guest can
/// neither hold up a thread of the runtime nor run on without end.
struct Ticker {
    shared: Arc<Ticking>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Ticking {
    calls: AtomicUsize,
    stopped: AtomicBool,
}

impl Ticker {
    fn start(engine: Engine) -> Self {
        let shared = Arc::new(Ticking::default());
        let ticking = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !ticking.stopped.load(Ordering::Acquire) {
                if ticking.calls.load(Ordering::Acquire) == 0 {
                    thread::park();
                } else {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// A call is running until what this returns is dropped.
    fn running(&self) -> Running {
        if self.shared.calls.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

/// Counts one running call.
struct Running(Arc<Ticking>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_place_is_free_once_the_instance_is_gone_and_no_sooner() {
        let limits = Limits {
            instances: NonZeroU32::MIN,
            ..Limits::default()
        };
        let host = Host::builder().limits(limits).build().unwrap();
        let connection = host.connection("crm", Config::default());
        let calls = (0..1000).map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.check().await.map(drop) })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
    }
}
