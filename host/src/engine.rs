//! The engine, the component compiled for it, and the limits of a call.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Component, HasData, HasSelf, Linker, ResourceTable};
use wasmtime::{
    Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder, UpdateDeadline,
};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::{clocks, io, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::contract::bindings::tokenwell::oauth2::{events, secrets, token_store, user_agent};
use crate::contract::bindings::{InteractiveConnection, InteractiveConnectionPre};
use crate::embedded;
use crate::error::BuildError;
use crate::http_client::GuestHttp;
use crate::imports::Services;
use crate::world;

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
    /// waits for one; an authorization holds one while it waits for its user. The
    /// address space for all of them is reserved when the
    /// host is built; memory is taken as it is used.
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
    pre: InteractiveConnectionPre<State>,
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
        Ok(Self {
            pre: link(&component).map_err(unfit)?,
            ticker: Ticker::start(engine),
            limits,
            free: Arc::new(Semaphore::new(limits.instances.get() as usize)),
        })
    }

    /// A fresh instance in a store of its own.
    pub(crate) async fn instantiate(
        &self,
        services: Arc<Services>,
        http: GuestHttp,
    ) -> wasmtime::Result<(InteractiveConnection, Store<State>)> {
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
            _place: Arc::clone(&self.free).acquire_owned().await?,
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        let most = self.limits.compute.as_millis() / TICK.as_millis();
        let mut ticks = 0;
        store.epoch_deadline_callback(move |_| {
            ticks += 1;
            Ok(if ticks > most {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        let instance = self.pre.instantiate_async(&mut store).await?;
        Ok((instance, store))
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
        .table_elements(TABLE_ELEMENTS);
    let mut config = configuration();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|_| Engine::new(&configuration()))
}

/// How many core instances and tables the places hold for each instance: the
/// component, what joins it to its imports, and one to spare.
const PARTS_IN_USE: u32 = 4;

/// The settings that components are compiled and run with.
pub(crate) fn configuration() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.concurrency_support(false).epoch_interruption(true);
    config
}

fn link(component: &Component) -> wasmtime::Result<InteractiveConnectionPre<State>> {
    let pre = linker(component.engine())?.instantiate_pre(component)?;
    InteractiveConnectionPre::new(pre)
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
    _place: OwnedSemaphorePermit,
}

impl State {
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
