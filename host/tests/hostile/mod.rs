//! A component that misbehaves (`tests/hostile`), and the connections beside it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokenwell::{
    Config, Connection, ConnectionState, Error, Host, Limits, LocalSecrets, MemoryStore, TokenStore,
};
use tokenwell_tests::workspace;

fn host(limits: Limits) -> Host {
    let builder = Host::builder().limits(limits);
    builder.component(component()).build().unwrap()
}

fn component() -> Vec<u8> {
    let path = workspace().join("target/component/hostile.wasm");
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "cannot read {} ({error}): run `cargo xtask test`",
            path.display()
        )
    })
}

/// One instance at a time, so that one that were kept would keep the next from
/// being made; and not long to compute.
fn tight() -> Limits {
    let mut limits = Limits::default();
    limits.memory = 8 << 20;
    limits.compute = Duration::from_millis(200);
    limits.instances = std::num::NonZeroU32::MIN;
    limits
}

fn connection(host: &Host, name: &str) -> Connection {
    host.connection(name, Config::default())
}

async fn is_well(host: &Host) {
    let status = connection(host, "well-behaved").status().await.unwrap();
    assert_eq!(status.state, ConnectionState::Authorized);
}

/// The call ends, what it had is given back, and the next has an instance that
/// knows nothing of it.
async fn ends_and_is_replaced(name: &str) -> String {
    let host = host(tight());
    is_well(&host).await;
    let ended = connection(&host, name).status().await;
    is_well(&host).await;
    let Err(error @ Error::Internal(_)) = ended else {
        panic!("{ended:?}");
    };
    let mut causes: Option<&dyn std::error::Error> = Some(&error);
    let mut told = String::new();
    while let Some(cause) = causes {
        told += &format!("{cause}\n");
        causes = cause.source();
    }
    told
}

#[tokio::test]
async fn a_component_that_loops_is_ended_and_replaced() {
    let why = ends_and_is_replaced("loops").await;
    assert!(why.contains("interrupt"), "{why}");
}

#[tokio::test]
async fn a_component_that_allocates_without_end_is_ended_and_replaced() {
    let why = ends_and_is_replaced("allocates").await;
    // It is given no more memory, and gives up.
    assert!(why.contains("unreachable"), "{why}");
}

#[tokio::test]
async fn a_component_that_traps_is_replaced() {
    ends_and_is_replaced("traps").await;
}

#[tokio::test]
async fn a_component_that_recurses_without_end_is_ended_and_replaced() {
    ends_and_is_replaced("recurses").await;
}

#[tokio::test]
async fn a_component_that_hoards_what_the_host_keeps_for_it_is_ended_and_replaced() {
    let why = ends_and_is_replaced("hoards").await;
    assert!(why.contains("no free keys"), "{why}");
}

#[tokio::test]
async fn a_component_that_calls_the_host_without_end_is_ended_and_replaced() {
    let why = ends_and_is_replaced("chatters").await;
    assert!(why.contains("interrupt"), "{why}");
}

#[tokio::test]
async fn a_component_that_traps_with_a_lease_in_hand_leaves_it_free() {
    let store: Arc<dyn TokenStore> = Arc::new(MemoryStore::new());
    let builder = Host::builder().component(component());
    let builder = builder
        .store(Arc::clone(&store))
        .secrets(LocalSecrets::in_memory());
    let host = builder.build().unwrap();
    connection(&host, "keeps-a-lease")
        .status()
        .await
        .unwrap_err();
    let wait = Duration::ZERO;
    let lease = store
        .acquire_lease("keeps-a-lease", Duration::from_secs(1), wait)
        .await;
    assert!(lease.unwrap().is_some());
}

#[tokio::test]
async fn while_some_connections_loop_another_answers() {
    let mut limits = tight();
    limits.compute = Duration::from_secs(3600);
    limits.instances = Limits::default().instances;
    let host = host(limits);
    let looping: Vec<_> = (0..8)
        .map(|_| {
            let looping = connection(&host, "loops");
            tokio::spawn(async move { looping.status().await })
        })
        .collect();
    for _ in 0..10 {
        is_well(&host).await;
    }
    // They loop still: whoever asked no longer wants to know.
    for looping in looping {
        assert!(!looping.is_finished());
        looping.abort();
        assert!(looping.await.unwrap_err().is_cancelled());
    }
    is_well(&host).await;
}
