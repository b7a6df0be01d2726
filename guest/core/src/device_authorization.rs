//! The device authorization grant (RFC 8628): what the server says at its
//! beginning, and how its answers to the polls are taken.

use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ViolationKind};
use crate::json::{Object, stored_fields};
use crate::metadata::Server;
use crate::secret::{SecretString, printable};
use crate::time::Timestamp;
use serde_json::Value;

/// How long to wait between polls where the server does not say, in seconds
/// (section 3.2), and how much longer after each `slow_down` (section 3.5).
const INTERVAL_SECONDS: u64 = 5;

/// The longest wait between polls, in seconds: no patience of a user is longer.
const LONGEST_INTERVAL_SECONDS: u64 = 300;

/// How long a device code is taken to live where the server does not say, though
/// it must, and the longest that is believed, in seconds.
const ASSUMED_LIFETIME_SECONDS: u64 = 600;
const LONGEST_LIFETIME_SECONDS: u64 = 86_400;

/// What the user is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceAuthorization {
    /// What the user types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// When it is too late.
    pub expires_at: Timestamp,
    /// How long to wait between polls, in seconds.
    pub interval_seconds: u64,
}

/// A device authorization under way: everything needed to go on with it, by any
/// instance on any node.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingDevice {
    /// The code that is polled with.
    pub device_code: SecretString,
    /// How long to wait between polls, in seconds.
    pub interval_seconds: u64,
    /// Before this nobody polls.
    pub next_poll_at: Timestamp,
    /// When it is too late.
    pub expires_at: Timestamp,
    /// The scopes asked for.
    pub scope: Vec<String>,
    /// The server that was asked.
    pub server: Server,
    /// The binding of the config that began it.
    pub binding: String,
}

stored_fields!(PendingDevice {
    device_code,
    interval_seconds,
    next_poll_at,
    expires_at,
    scope,
    server,
    binding
});

impl PendingDevice {
    /// Waits longer from now on: after `slow_down`.
    pub(crate) fn slow_down(&mut self) {
        self.wait(self.interval_seconds.saturating_add(INTERVAL_SECONDS));
    }

    /// Waits twice as long from now on: where the server cannot be reached
    /// (section 3.5).
    pub(crate) fn back_off(&mut self) {
        self.wait(self.interval_seconds.saturating_mul(2));
    }

    fn wait(&mut self, seconds: u64) {
        let seconds = seconds.min(LONGEST_INTERVAL_SECONDS);
        let longer = seconds.saturating_sub(self.interval_seconds);
        self.interval_seconds += longer;
        self.next_poll_at = self.next_poll_at.plus_millis(longer * 1000);
    }
}

/// Reads the server's answer (section 3.2): the device code, and what the user is
/// shown.
///
/// # Errors
/// A violation: a code is missing, or the address that the user is sent to is
/// none.
pub(crate) fn read(fields: &Object, now: Timestamp) -> Result<(SecretString, DeviceAuthorization)> {
    let text = |name: &str| {
        let value = fields.get(name).and_then(Value::as_str);
        value.filter(|text| !text.is_empty())
    };
    // The user's browser is sent there: to nothing but a web page.
    let page = |name: &str| text(name).filter(|url| Endpoint::parse(url).is_ok());
    let seconds = |name: &str, otherwise: u64, longest: u64| {
        let value = fields.get(name).and_then(Value::as_u64);
        value.unwrap_or(otherwise).clamp(1, longest)
    };
    let missing = |what: &str| {
        Error::violation(
            ViolationKind::Response,
            format!("the device authorization endpoint's answer brings no {what}"),
        )
    };
    let device_code = text("device_code").ok_or_else(|| missing("device_code"))?;
    let user_code = text("user_code").ok_or_else(|| missing("user_code"))?;
    // The second name is that of a draft, which Google's server has kept.
    let verification_uri = page("verification_uri").or_else(|| page("verification_url"));
    let verification_uri = verification_uri.ok_or_else(|| missing("usable verification_uri"))?;
    let lifetime = seconds(
        "expires_in",
        ASSUMED_LIFETIME_SECONDS,
        LONGEST_LIFETIME_SECONDS,
    );
    let shown = DeviceAuthorization {
        user_code: printable(user_code, &[]),
        verification_uri: verification_uri.to_owned(),
        verification_uri_complete: page("verification_uri_complete").map(str::to_owned),
        expires_at: now.plus_millis(lifetime * 1000),
        interval_seconds: seconds("interval", INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS),
    };
    Ok((SecretString::new(device_code), shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> Value {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/oauth.json")).expect("JSON");
        let body = vectors["device_response"]["body"].as_str().expect("text");
        serde_json::from_str(body).expect("JSON")
    }

    fn read_with(name: &str, value: Value) -> Result<(SecretString, DeviceAuthorization)> {
        let mut body = example();
        body[name] = value;
        read(body.as_object().expect("an object"), Timestamp(7000))
    }

    /// Shows: RFC 8628.
    #[test]
    fn the_rfc_8628_example_is_read() {
        // RFC 8628 section 3.2.
        let (code, shown) = read_with("x", json!(null)).expect("it is complete");
        assert_eq!(code.reveal(), "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS");
        assert_eq!(
            shown,
            DeviceAuthorization {
                user_code: "WDJB-MJHT".to_owned(),
                verification_uri: "https://example.com/device".to_owned(),
                verification_uri_complete: Some(
                    "https://example.com/device?user_code=WDJB-MJHT".to_owned()
                ),
                expires_at: Timestamp::from_seconds(1807),
                interval_seconds: 5,
            }
        );
    }

    #[test]
    fn what_is_missing_or_absurd_is_assumed() {
        let of = |name: &str, value: Value| read_with(name, value).expect("it is read").1;
        assert_eq!(of("interval", json!(null)).interval_seconds, 5);
        assert_eq!(of("interval", json!(0)).interval_seconds, 1);
        assert_eq!(of("interval", json!(u64::MAX)).interval_seconds, 300);
        assert_eq!(
            of("expires_in", json!(null)).expires_at,
            Timestamp::from_seconds(607)
        );
        assert_eq!(
            of("expires_in", json!(u64::MAX)).expires_at,
            Timestamp::from_seconds(86_407)
        );
    }

    #[test]
    fn the_user_is_sent_to_nothing_but_a_web_page() {
        for url in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://as.example/d",
            "",
        ] {
            assert!(read_with("verification_uri", json!(url)).is_err(), "{url}");
            let (_, shown) = read_with("verification_uri_complete", json!(url)).expect("read");
            assert_eq!(shown.verification_uri_complete, None, "{url}");
        }
    }

    #[test]
    fn without_a_code_it_is_a_violation() {
        for name in ["device_code", "user_code", "verification_uri"] {
            assert!(read_with(name, json!(null)).is_err(), "{name}");
        }
    }

    fn pending(interval_seconds: u64) -> PendingDevice {
        PendingDevice {
            device_code: SecretString::default(),
            interval_seconds,
            next_poll_at: Timestamp(0),
            expires_at: Timestamp(0),
            scope: Vec::new(),
            server: Server::default(),
            binding: String::new(),
        }
    }

    #[test]
    fn slow_down_adds_five_seconds_each_time_and_an_outage_doubles() {
        let mut device = pending(5);
        device.slow_down();
        device.slow_down();
        assert_eq!(device.interval_seconds, 15);
        assert_eq!(device.next_poll_at, Timestamp(10_000));
        device.back_off();
        assert_eq!(device.interval_seconds, 30);
        let mut device = pending(299);
        device.slow_down();
        device.back_off();
        assert_eq!(device.interval_seconds, 300);
    }

    #[test]
    fn a_user_code_has_no_control_characters() {
        let body = json!({"device_code": "d", "user_code": "A\u{1b}[2J",
            "verification_uri": "https://as.example/"});
        let body = body.as_object().expect("an object");
        let (_, shown) = read(body, Timestamp(0)).expect("a device");
        assert_eq!(shown.user_code, "A [2J");
    }
}
