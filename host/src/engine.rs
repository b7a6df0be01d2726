//! The engine, the component compiled for it, and the limits of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::component::{Component, HasData, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::{clocks, io, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::contract::bindings::tokenwell::oauth2::{events, secrets, token_store, user_agent};
use crate::contract::bindings::{InteractiveConnection, InteractiveConnectionPre};
use crate::embedded;
use crate::error::BuildError;
use crate::http_client::{GuestHttp, HttpClient};
use crate::imports::Services;

/// The most memory that one instance may have, in bytes.
const MEMORY_LIMIT: usize = 64 << 20;

/// How often a running guest gives way to other tasks.
const TICK: Duration = Duration::from_millis(10);

/// For how many ticks the guest itself may compute during one call. The time
/// that it waits for the host does not count.
const COMPUTE_LIMIT: u32 = 1000;

/// The component, compiled and linked.
pub(crate) struct Runtime {
    pre: InteractiveConnectionPre<State>,
    ticker: Ticker,
}

impl Runtime {
    /// Of the component in this library, where no other is given.
    pub(crate) fn new(given: Option<&[u8]>) -> Result<Self, BuildError> {
        let unfit = |e: wasmtime::Error| BuildError::Component(e.into());
        let engine = Engine::new(&configuration()).map_err(unfit)?;
        let component = match given {
            Some(bytes) => Component::new(&engine, bytes).map_err(unfit)?,
            None => embedded::component(&engine)?,
        };
        Ok(Self {
            pre: link(&component).map_err(unfit)?,
            ticker: Ticker::start(engine),
        })
    }

    /// A fresh instance in a store of its own.
    pub(crate) async fn instantiate(
        &self,
        services: Arc<Services>,
        http: Arc<HttpClient>,
    ) -> wasmtime::Result<(InteractiveConnection, Store<State>)> {
        let state = State {
            table: ResourceTable::new(),
            clocks: WasiClocksCtx::default(),
            random: WasiRandomCtx::default(),
            http: WasiHttpCtx::new(),
            guest_http: GuestHttp::new(http),
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build(),
            services,
            _running: self.ticker.running(),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        let mut ticks = 0;
        store.epoch_deadline_callback(move |_| {
            ticks += 1;
            Ok(if ticks > COMPUTE_LIMIT {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        let instance = self.pre.instantiate_async(&mut store).await?;
        Ok((instance, store))
    }
}

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
    clocks: WasiClocksCtx,
    random: WasiRandomCtx,
    http: WasiHttpCtx,
    guest_http: GuestHttp,
    limits: StoreLimits,
    _running: Running,
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
