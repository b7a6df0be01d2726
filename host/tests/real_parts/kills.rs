//! `kill -9` at every effect of a renewal, and at any instant.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokenwell_tests::{Moment, faults, report};

use crate::authorized::{Recovery, Scene, assert_nothing_is_torn, recover};
use crate::child;

/// What the kills of a test came to.
#[derive(Debug, Default)]
struct Toll {
    renewals: usize,
    kills: usize,
    in_flight: usize,
}

impl Toll {
    /// Takes note of how it went on after a kill. A renewal in flight is one
    /// that the server had acted on and that was not stored: there alone the
    /// user may be needed.
    fn note(&mut self, recovery: &Recovery, was_in_flight: bool, what: &str) {
        self.renewals += 1;
        if *recovery == Recovery::Interrupted {
            assert!(was_in_flight, "a refresh token was lost: {what}");
            self.in_flight += 1;
        }
    }

    fn report(&self, what: &str) {
        let Self {
            renewals,
            kills,
            in_flight,
        } = self;
        report(&format!(
            "{what}: {renewals} renewals, {kills} kills, {in_flight} in flight and said so, lost: 0"
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_every_effect_of_a_renewal_loses_nothing_but_what_was_in_flight() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let host = scene.host();
    let connection = scene.connection(&host).await;
    scene.authorize(&connection).await;
    let directory = scene.directory.path();

    let whole = child::start(directory, &scene.config, "nowhere");
    let whole = whole.wait_with_output().unwrap();
    let boundaries = child::boundaries(&whole.stdout);
    assert!(
        boundaries.len() >= 20 && boundaries.contains(&"event renewed (1)".to_owned()),
        "{boundaries:?}\n{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    let stored_at = boundaries
        .iter()
        .rposition(|name| name.starts_with("swap ends"));
    let stored_at = stored_at.unwrap();

    let mut toll = Toll::default();
    for (number, boundary) in boundaries.iter().enumerate() {
        let acted_before = scene.relay.acted();
        let dying = child::start(directory, &scene.config, boundary);
        let dead = dying.wait_with_output().unwrap();
        assert!(!dead.status.success(), "it lives on at {boundary}");
        toll.kills += 1;
        assert_nothing_is_torn(directory);
        let was_in_flight = scene.relay.acted() > acted_before && number < stored_at;
        let recovery = recover(&connection).await;
        toll.note(&recovery, was_in_flight, boundary);
        if recovery == Recovery::Interrupted {
            scene.authorize(&connection).await;
        }
    }
    // And while the request is on its way there and back.
    for moment in [Moment::Asked, Moment::Answered] {
        let acted_before = scene.relay.acted();
        let dying = Arc::new(Mutex::new(child::start(
            directory,
            &scene.config,
            "nowhere",
        )));
        let victim = Arc::clone(&dying);
        scene.relay.at_each_moment(move |now| {
            if now == moment {
                let mut victim = victim.lock().unwrap();
                victim.kill().unwrap();
                victim.wait().unwrap();
            }
        });
        let patience = Instant::now() + Duration::from_secs(60);
        while dying.lock().unwrap().try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "it is not killed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The relay passes the request on all the same.
        while scene.relay.acted() == acted_before {
            assert!(Instant::now() < patience, "the server does not act");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene.relay.let_pass();
        toll.kills += 1;
        let recovery = recover(&connection).await;
        toll.note(&recovery, true, &format!("{moment:?}"));
        if recovery == Recovery::Interrupted {
            scene.authorize(&connection).await;
        }
    }
    toll.report("kill -9 at every effect of a renewal");
}

/// A number below a bound that differs each time and needs no crate: kills are
/// to come at any instant.
fn any_below(bound: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(bound) % bound.max(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_instant_lose_nothing_but_what_was_in_flight() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let host = scene.host();
    let connection = scene.connection(&host).await;
    scene.authorize(&connection).await;
    let directory = scene.directory.path();
    std::fs::write(directory.join("crm.json"), &scene.config).unwrap();
    let refresh = || {
        Command::new(env!("CARGO_BIN_EXE_tokenwell"))
            .arg("--dir")
            .arg(directory)
            .args(["refresh", "crm"])
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // How long a renewal takes here, so that the kills fall into one.
    let begun = Instant::now();
    for _ in 0..5 {
        assert!(refresh().wait().unwrap().success());
    }
    let usual = begun.elapsed() / 5;

    let mut toll = Toll::default();
    while toll.renewals < faults(1000, 40) {
        let acted_before = scene.relay.acted();
        let mut dying = refresh();
        let micros = u64::try_from(usual.as_micros()).unwrap();
        tokio::time::sleep(Duration::from_micros(any_below(micros * 5 / 4))).await;
        dying.kill().unwrap();
        let outlived = dying.wait().unwrap().success();
        assert_nothing_is_torn(directory);
        if outlived {
            toll.renewals += 1;
            continue;
        }
        toll.kills += 1;
        let recovery = recover(&connection).await;
        // The request of the dead may have been on its way still.
        let was_in_flight = scene.relay.acted() > acted_before;
        toll.note(&recovery, was_in_flight, "at any instant");
        if recovery == Recovery::Interrupted {
            scene.authorize(&connection).await;
        }
    }
    toll.report("kill -9 at any instant");
}
