//! When a token is fresh, when it is due, and when a failure is tried again.
//! Functions of their arguments; the flow that uses them is
//! [`connection`](crate::connection).

use crate::config::RenewalPolicy;
use crate::platform::Random;
use crate::record::{Credential, Failure, Record, RenewalReason};
use crate::time::Timestamp;

/// The widest early window, in milliseconds.
const WIDEST_WINDOW: u64 = 5 * 60 * 1000;

/// How far the clocks of hosts that share a store may differ, in milliseconds.
const CLOCK_TOLERANCE: u64 = 60 * 1000;

/// For how long a refused token that the server has given again is not asked for
/// anew, in milliseconds.
const REISSUED_PAUSE: u64 = 10 * 1000;

/// What is asked of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// One that is valid, and other than the one that was refused, unless the
    /// server has just given that again.
    Valid {
        /// The least validity wanted, in milliseconds.
        min_validity_millis: u64,
        /// The access token that a resource server has just refused.
        rejected: Option<crate::secret::SecretString>,
    },
    /// One obtained after the generation that was seen.
    NewerThan(u64),
}

/// How a record stands against a demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// It meets it.
    Fresh,
    /// It meets it still, and is due for renewal.
    Due(RenewalReason),
    /// It does not meet it.
    Unmet(RenewalReason),
}

/// Holds a record against a demand. `binding` is that of the present config.
pub fn assess(record: &Record, binding: &str, demand: &Demand, now: Timestamp) -> Standing {
    let Some(credential) = &record.credential else {
        return Standing::Unmet(RenewalReason::FirstToken);
    };
    if credential.binding != binding {
        return Standing::Unmet(RenewalReason::ConfigChanged);
    }
    let is_valid = is_valid(credential, now);
    match demand {
        Demand::NewerThan(generation) => {
            if record.generation > *generation && is_valid {
                Standing::Fresh
            } else {
                Standing::Unmet(RenewalReason::Requested)
            }
        }
        Demand::Valid {
            min_validity_millis,
            rejected,
        } => {
            if rejected.as_ref() == Some(&credential.access_token)
                && !is_just_reissued(credential, now)
            {
                return Standing::Unmet(RenewalReason::Rejected);
            }
            if !is_valid {
                return Standing::Unmet(RenewalReason::Expired);
            }
            if lacks_validity(credential, *min_validity_millis, now) {
                return Standing::Due(RenewalReason::MinValidity);
            }
            let is_due = credential.fresh_until.is_some_and(|until| now >= until);
            // A clock that was set back says nothing about the token's age.
            let is_from_future = now.plus_millis(CLOCK_TOLERANCE) < credential.received_at;
            if is_due || is_from_future && credential.expires_at.is_some() {
                return Standing::Due(RenewalReason::Early);
            }
            Standing::Fresh
        }
    }
}

/// Whether the server has given the same access token again a moment ago.
fn is_just_reissued(credential: &Credential, now: Timestamp) -> bool {
    let since = credential.received_at;
    credential.is_reissued && since <= now && now < since.plus_millis(REISSUED_PAUSE)
}

/// Whether a credential's access token has not expired.
pub fn is_valid(credential: &Credential, now: Timestamp) -> bool {
    credential.expires_at.is_none_or(|expiry| now < expiry)
}

/// Whether less validity is left than wanted. What no token of this server
/// reaches is not asked of it: more than nine tenths of the lifetime would have
/// every call renew.
pub fn lacks_validity(credential: &Credential, wanted_millis: u64, now: Timestamp) -> bool {
    credential.expires_at.is_some_and(|expiry| {
        let lifetime = expiry.millis_since(credential.received_at);
        expiry.millis_since(now) < wanted_millis.min(lifetime / 10 * 9)
    })
}

/// When a token that lives so long is due for renewal: before its expiry by the
/// early window, which is shortened by up to a quarter, drawn once per token, so
/// that tokens obtained together are not renewed together.
pub fn fresh_until(
    received_at: Timestamp,
    lifetime_millis: u64,
    policy: &RenewalPolicy,
    random: &impl Random,
) -> Timestamp {
    let window = match policy.early_seconds {
        // A window as wide as the lifetime would have every call renew.
        Some(seconds) => (u64::from(seconds) * 1000).min(lifetime_millis / 2),
        None => WIDEST_WINDOW.min(lifetime_millis / 10),
    };
    let window = window - below(window / 4 + 1, random);
    received_at.plus_millis(lifetime_millis - window)
}

/// When a failed attempt is tried again: after a pause that doubles with each
/// failure, shortened by up to a quarter, or the one that the server asks for
/// where that is longer.
pub fn retry_at(
    now: Timestamp,
    attempts: u32,
    retry_after_millis: Option<u64>,
    policy: &RenewalPolicy,
    random: &impl Random,
) -> Timestamp {
    let first = u64::from(policy.first_retry_seconds.unwrap_or(1)) * 1000;
    let longest = u64::from(policy.max_retry_seconds.unwrap_or(300)) * 1000;
    let doublings = attempts.saturating_sub(1).min(20);
    let pause = first.saturating_mul(1 << doublings).min(longest);
    let pause = pause - below(pause / 4 + 1, random);
    now.plus_millis(pause.max(retry_after_millis.unwrap_or(0)))
}

/// Whether an attempt may be made now, or the last failure asks for patience. A
/// clock that was set back does not prolong the pause beyond its length.
pub fn may_try(failure: &Failure, now: Timestamp) -> bool {
    let retry_at = failure.retry_at;
    retry_at.is_none_or(|retry_at| now >= retry_at || now < failure.at)
}

/// A random number below a bound. The bias of the remainder is of no concern:
/// it spreads load, it keeps no secret.
fn below(bound: u64, random: &impl Random) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Server;
    use crate::record::FailureCause;
    use crate::secret::SecretString;

    struct Fixed(u8);
    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    /// A token received at 0 that lives for 1000 seconds.
    fn record() -> Record {
        Record {
            generation: 3,
            credential: Some(Credential {
                access_token: SecretString::new("a"),
                token_type: "Bearer".to_owned(),
                received_at: Timestamp(0),
                expires_at: Some(Timestamp::from_seconds(1000)),
                fresh_until: Some(Timestamp::from_seconds(900)),
                refresh_token: None,
                refresh_expires_at: None,
                scope: Vec::new(),
                response: SecretString::default(),
                id_token: None,
                skew_millis: 0,
                authorized_at: Timestamp(0),
                is_reissued: false,
                reason: RenewalReason::Authorization,
                binding: "b".to_owned(),
                server: Server::default(),
            }),
            ..Record::default()
        }
    }

    fn standing(seconds: u64, min_validity: u64, rejected: Option<&str>) -> Standing {
        let demand = Demand::Valid {
            min_validity_millis: min_validity * 1000,
            rejected: rejected.map(SecretString::new),
        };
        assess(&record(), "b", &demand, Timestamp::from_seconds(seconds))
    }

    #[test]
    fn a_token_is_fresh_then_due_then_expired() {
        assert_eq!(standing(899, 0, None), Standing::Fresh);
        assert_eq!(standing(900, 0, None), Standing::Due(RenewalReason::Early));
        assert_eq!(standing(999, 0, None), Standing::Due(RenewalReason::Early));
        assert_eq!(
            standing(1000, 0, None),
            Standing::Unmet(RenewalReason::Expired)
        );
    }

    #[test]
    fn a_longer_validity_makes_it_due_sooner_but_never_always() {
        assert_eq!(standing(500, 500, None), Standing::Fresh);
        assert_eq!(
            standing(501, 500, None),
            Standing::Due(RenewalReason::MinValidity)
        );
        assert_eq!(standing(0, 5000, None), Standing::Fresh);
        // Nine tenths of its lifetime are left, and a second later less.
        assert_eq!(standing(100, 5000, None), Standing::Fresh);
        assert_eq!(
            standing(101, 5000, None),
            Standing::Due(RenewalReason::MinValidity)
        );
    }

    #[test]
    fn a_token_from_the_future_is_due_because_the_clock_was_set_back() {
        let mut record = record();
        if let Some(credential) = &mut record.credential {
            credential.received_at = Timestamp::from_seconds(100);
        }
        let demand = Demand::Valid {
            min_validity_millis: 0,
            rejected: None,
        };
        let at = |seconds| assess(&record, "b", &demand, Timestamp::from_seconds(seconds));
        assert_eq!(at(39), Standing::Due(RenewalReason::Early));
        assert_eq!(at(40), Standing::Fresh);
    }

    #[test]
    fn a_rejected_token_does_not_do_and_a_replaced_one_does() {
        assert_eq!(
            standing(1, 0, Some("a")),
            Standing::Unmet(RenewalReason::Rejected)
        );
        assert_eq!(standing(1, 0, Some("older")), Standing::Fresh);
    }

    #[test]
    fn a_rejected_token_that_was_given_again_does_for_a_moment() {
        let mut record = record();
        if let Some(credential) = &mut record.credential {
            credential.is_reissued = true;
            credential.received_at = Timestamp::from_seconds(5);
        }
        let demand = Demand::Valid {
            min_validity_millis: 0,
            rejected: Some(SecretString::new("a")),
        };
        let at = |seconds| assess(&record, "b", &demand, Timestamp::from_seconds(seconds));
        let rejected = Standing::Unmet(RenewalReason::Rejected);
        // The clock was set back; just now; a while ago.
        assert_eq!(
            [4, 5, 14, 15].map(at),
            [rejected, Standing::Fresh, Standing::Fresh, rejected]
        );
    }

    #[test]
    fn a_demand_for_a_newer_token_is_met_by_whoever_renewed() {
        let at = |generation| assess(&record(), "b", &Demand::NewerThan(generation), Timestamp(0));
        assert_eq!(at(3), Standing::Unmet(RenewalReason::Requested));
        assert_eq!(at(2), Standing::Fresh);
    }

    #[test]
    fn a_credential_of_another_config_does_not_do() {
        let demand = Demand::NewerThan(0);
        let standing = assess(&record(), "other", &demand, Timestamp(0));
        assert_eq!(standing, Standing::Unmet(RenewalReason::ConfigChanged));
    }

    #[test]
    fn the_early_window_is_a_tenth_of_the_lifetime_up_to_five_minutes_less_a_jitter() {
        let until = |lifetime, byte| {
            fresh_until(
                Timestamp(0),
                lifetime,
                &RenewalPolicy::default(),
                &Fixed(byte),
            )
            .0
        };
        assert_eq!(until(1_000_000, 0), 900_000);
        assert_eq!(until(36_000_000, 0), 36_000_000 - 300_000);
        for byte in 0..=255 {
            assert!((900_000..=925_000).contains(&until(1_000_000, byte)));
        }
    }

    #[test]
    fn an_early_window_as_wide_as_the_lifetime_is_halved() {
        let policy = RenewalPolicy {
            early_seconds: Some(3600),
            ..RenewalPolicy::default()
        };
        assert_eq!(
            fresh_until(Timestamp(0), 60_000, &policy, &Fixed(0)),
            Timestamp(30_000)
        );
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |attempts| {
            retry_at(
                Timestamp(0),
                attempts,
                None,
                &RenewalPolicy::default(),
                &Fixed(0),
            )
            .0
        };
        assert_eq!(
            [
                pause(1),
                pause(2),
                pause(3),
                pause(9),
                pause(10),
                pause(u32::MAX)
            ],
            [1000, 2000, 4000, 256_000, 300_000, 300_000]
        );
    }

    #[test]
    fn the_longer_pause_counts_the_servers_or_that_of_the_failures() {
        for (attempts, retry_after, pause) in [(1, 7000, 7000), (9, 7000, 256_000), (3, 0, 4000)] {
            let policy = RenewalPolicy::default();
            let at = retry_at(
                Timestamp(0),
                attempts,
                Some(retry_after),
                &policy,
                &Fixed(0),
            );
            assert_eq!(at, Timestamp(pause));
        }
    }

    #[test]
    fn a_failure_asks_for_patience_until_its_time() {
        let failure = Failure {
            at: Timestamp(100),
            attempts: 1,
            retry_at: Some(Timestamp(200)),
            binding: "b".to_owned(),
            cause: FailureCause::Unavailable(String::new()),
        };
        assert!(!may_try(&failure, Timestamp(150)));
        assert!(may_try(&failure, Timestamp(200)));
        // The clock was set back.
        assert!(may_try(&failure, Timestamp(50)));
    }
}
