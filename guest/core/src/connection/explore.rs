//! Every interleaving of a few callers, with a crash possible at every effect.
//!
//! The real flows run in the fake world. A path is a list of choices: who does
//! his next effect, who crashes, when time passes. The paths are walked depth
//! first, each from the beginning, since a future cannot be copied; a state that
//! was met before (the world, and what each has seen of it) is not walked again.

use super::fake::{CODE, FakePlatform, World, one_step, run, wait_for};
use super::*;
use crate::error::Unboxed as _;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

type Caller<'a> = Pin<Box<dyn Future<Output = (Result<Token>, Timestamp)> + 'a>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Choice {
    /// This caller does his next effect.
    Step(usize),
    /// This caller dies; the store notices at once, as a file lock does.
    Crash(usize),
    /// This caller dies, and his lease stays until its time is over.
    Vanish(usize),
    /// More time passes than any lease lasts: whoever is in the middle stalls.
    Stall,
    /// All wait: time passes until the first of them goes on.
    Wait,
}

/// What may happen on a path beside the callers' effects.
#[derive(Clone, Copy)]
struct Budget {
    crashes: usize,
    stalls: usize,
}

/// How a path ended.
struct Ending {
    path: Vec<Choice>,
    world: Rc<World>,
    results: Vec<Option<(Result<Token>, Timestamp)>>,
    crashed: Vec<bool>,
    stalled: bool,
}

/// What was seen on all paths together.
#[derive(Debug, Default)]
struct Tally {
    states: usize,
    endings: usize,
    needed_user: usize,
}

/// Walks every path; `check` judges each ending.
fn explore(callers: usize, budget: Budget, seconds_later: u64, check: impl Fn(&Ending)) -> Tally {
    let mut tally = Tally::default();
    let mut met = HashSet::new();
    let mut paths: Vec<Vec<Choice>> = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let world = World::new();
        world.authorized();
        world.pass(seconds_later);
        let connections: Vec<_> = (0..callers).map(|_| world.open(CODE)).collect();
        let mut walk = Walk::new(&world, &connections);
        for choice in &path {
            walk.take(*choice);
        }
        if !met.insert(walk.state()) {
            continue;
        }
        tally.states += 1;
        let choices = walk.choices(budget);
        if choices.is_empty() {
            tally.endings += 1;
            let ending = walk.end(path);
            check(&ending);
            let needs_user = |result: &Option<(Result<Token>, Timestamp)>| {
                let error = result.as_ref().and_then(|(token, _)| token.as_ref().err());
                error.is_some_and(|error| matches!(**error, Error::ReauthorizationRequired(_)))
            };
            tally.needed_user += usize::from(ending.results.iter().any(needs_user));
            continue;
        }
        for choice in choices {
            let mut further = path.clone();
            further.push(choice);
            paths.push(further);
        }
    }
    tally
}

/// One path, as far as it has been walked.
struct Walk<'a> {
    world: Rc<World>,
    callers: Vec<Option<Caller<'a>>>,
    results: Vec<Option<(Result<Token>, Timestamp)>>,
    crashed: Vec<bool>,
    /// Until when each waits, if he did when he was last asked.
    waiting: Vec<Option<u64>>,
    /// How many effects each has done.
    steps: Vec<usize>,
    crashes: usize,
    stalls: usize,
}

/// What tells two states apart.
#[derive(PartialEq, Eq, Hash)]
struct State {
    world: u64,
    steps: Vec<usize>,
    waiting: Vec<Option<u64>>,
    alive: Vec<bool>,
    crashed: Vec<bool>,
    stalls: usize,
}

impl<'a> Walk<'a> {
    fn new(world: &Rc<World>, connections: &'a [Connection<FakePlatform>]) -> Self {
        let callers = connections.iter().map(|connection| {
            let platform = FakePlatform(Rc::clone(world));
            let caller: Caller<'a> = Box::pin(async move {
                let token = connection.token(&TokenOptions::default()).await;
                (token, platform.now())
            });
            Some(caller)
        });
        Self {
            world: Rc::clone(world),
            callers: callers.collect(),
            results: connections.iter().map(|_| None).collect(),
            crashed: vec![false; connections.len()],
            waiting: vec![None; connections.len()],
            steps: vec![0; connections.len()],
            crashes: 0,
            stalls: 0,
        }
    }

    fn take(&mut self, choice: Choice) {
        let mut progress = true;
        match choice {
            Choice::Step(number) => {
                // Caller 0 of the world is whoever set it up.
                self.world.let_run(number + 1);
                let caller = self.callers[number].as_mut().expect("he is there");
                match one_step(caller.as_mut()) {
                    Ok(polled) => {
                        self.steps[number] += 1;
                        let Poll::Ready(result) = polled else {
                            return self.waiting.fill(None);
                        };
                        self.results[number] = Some(result);
                        self.callers[number] = None;
                    }
                    Err(until) => {
                        self.waiting[number] = Some(until);
                        progress = false;
                    }
                }
            }
            Choice::Crash(number) => {
                self.callers[number] = None;
                self.crashed[number] = true;
                self.crashes += 1;
            }
            Choice::Vanish(number) => {
                std::mem::forget(self.callers[number].take());
                self.crashed[number] = true;
                self.crashes += 1;
            }
            Choice::Stall => {
                self.world.pass(1000);
                self.stalls += 1;
            }
            Choice::Wait => {
                let first = self.alive().filter_map(|number| self.waiting[number]).min();
                wait_for(first.expect("somebody waits"));
            }
        }
        // What one does may be what the others wait for.
        if progress {
            self.waiting.fill(None);
        }
    }

    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.callers.len()).filter(|number| self.callers[*number].is_some())
    }

    fn choices(&self, budget: Budget) -> Vec<Choice> {
        let mut choices = Vec::new();
        for number in self.alive() {
            if self.waiting[number].is_none() {
                choices.push(Choice::Step(number));
            }
            if self.crashes < budget.crashes {
                choices.push(Choice::Crash(number));
                choices.push(Choice::Vanish(number));
            }
        }
        if self.alive().next().is_some() {
            if self.alive().all(|number| self.waiting[number].is_some()) {
                choices.push(Choice::Wait);
            }
            if self.stalls < budget.stalls {
                choices.push(Choice::Stall);
            }
        }
        choices
    }

    fn state(&self) -> State {
        State {
            world: self.world.digest(),
            steps: self.steps.clone(),
            waiting: self.waiting.clone(),
            alive: self.callers.iter().map(Option::is_some).collect(),
            crashed: self.crashed.clone(),
            stalls: self.stalls,
        }
    }

    fn end(self, path: Vec<Choice>) -> Ending {
        Ending {
            path,
            world: self.world,
            results: self.results,
            crashed: self.crashed,
            stalled: self.stalls > 0,
        }
    }
}

/// Nobody is given a token that has expired by then.
fn nobody_has_an_expired_token(ending: &Ending) {
    for (result, at) in ending.results.iter().flatten() {
        if let Ok(token) = result {
            assert!(token.expires_at.is_none_or(|expiry| *at < expiry));
        }
    }
}

/// The last refresh token that arrived at somebody who lived on is the one that
/// is stored.
fn no_refresh_token_that_arrived_is_lost(ending: &Ending) {
    let delivered = ending.world.delivered.borrow();
    let last = delivered.iter().rev().find(|(caller, _)| {
        // Caller 0 authorized the connection.
        caller
            .checked_sub(1)
            .is_none_or(|number| !ending.crashed[number])
    });
    let stored = run(ending.world.open(CODE).load())
        .expect("it opens")
        .record;
    let stored = stored
        .credential
        .as_ref()
        .and_then(|credential| credential.refresh_token.clone());
    assert_eq!(
        stored.map(|token| token.reveal().to_owned()),
        last.map(|(_, token)| token.clone())
    );
}

/// Whoever comes after all this is served, or told the true cause.
fn it_recovers_or_says_why(ending: &Ending) {
    let world = &ending.world;
    world.let_run(0);
    world.pass(2000);
    let later = run(world.open(CODE).token(&TokenOptions::default()));
    match later.unboxed() {
        Ok(_) => {}
        Err(Error::ReauthorizationRequired(cause)) => {
            let intervened = ending.stalled || ending.crashed.contains(&true);
            assert!(intervened, "nothing had happened: {}", cause.reason);
            let (path, reason) = (&ending.path, cause.reason);
            let told = world.events.borrow();
            let told: Vec<_> = told.iter().map(|event| event.message.as_str()).collect();
            assert!(
                reason.contains("interrupted"),
                "{reason} {path:?} {told:#?}"
            );
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Where nothing intervenes, one request serves everybody.
fn one_request_serves_all(ending: &Ending) {
    assert_eq!(ending.world.token_requests(), 1);
    assert_eq!(ending.world.server.borrow().reuses, 0);
    for (result, _) in ending.results.iter().flatten() {
        assert!(result.is_ok(), "{result:?}");
    }
}

const EXPIRED: u64 = 1000;
const DUE: u64 = 950;

#[test]
fn without_faults_one_request_serves_all_in_every_order() {
    for (callers, later) in [(2, EXPIRED), (2, DUE), (3, EXPIRED), (3, DUE)] {
        let budget = Budget {
            crashes: 0,
            stalls: 0,
        };
        let tally = explore(callers, budget, later, |ending| {
            one_request_serves_all(ending);
            nobody_has_an_expired_token(ending);
            no_refresh_token_that_arrived_is_lost(ending);
            it_recovers_or_says_why(ending);
        });
        assert!(tally.endings > 1, "{tally:?}");
        assert_eq!(tally.needed_user, 0, "{tally:?}");
    }
}

/// Walks every path, and holds each ending against what is promised whatever
/// happens.
fn nothing_that_arrived_is_lost_under(callers: usize, budget: Budget) {
    for later in [EXPIRED, DUE] {
        let tally = explore(callers, budget, later, |ending| {
            nobody_has_an_expired_token(ending);
            no_refresh_token_that_arrived_is_lost(ending);
            it_recovers_or_says_why(ending);
        });
        assert!(tally.endings > 10, "{tally:?}");
        report(callers, budget, &tally);
    }
}

/// Tells how much was walked, past the test harness's capture.
fn report(callers: usize, budget: Budget, tally: &Tally) {
    use std::io::Write as _;
    let Budget { crashes, stalls } = budget;
    let Tally {
        states, endings, ..
    } = tally;
    // Standard error may be closed; then there is nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "FAULTS: every order of {callers} callers with at most {crashes} crashes and {stalls} stalls: {states} states, {endings} endings, lost: 0"
    );
}

/// Whether all is to be walked, which takes minutes: the build driver's
/// `--faults`.
fn walks_all() -> bool {
    std::env::var("TOKENWELL_FAULTS").as_deref() == Ok("full")
}

#[test]
fn a_crash_at_any_effect_in_any_order_loses_nothing_that_arrived() {
    let once = Budget {
        crashes: 1,
        stalls: 0,
    };
    nothing_that_arrived_is_lost_under(if walks_all() { 3 } else { 2 }, once);
}

#[test]
fn a_stall_beyond_the_lease_at_any_effect_in_any_order_loses_nothing_that_arrived() {
    let once = Budget {
        crashes: 0,
        stalls: 1,
    };
    nothing_that_arrived_is_lost_under(if walks_all() { 3 } else { 2 }, once);
}

#[test]
fn two_misfortunes_at_any_effects_in_any_order_lose_nothing_that_arrived() {
    if !walks_all() {
        return;
    }
    for (crashes, stalls) in [(2, 0), (1, 1)] {
        nothing_that_arrived_is_lost_under(2, Budget { crashes, stalls });
    }
}
