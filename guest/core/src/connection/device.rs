//! The device authorization grant (RFC 8628): the user decides on another device,
//! and any instance may ask whether he has.

use super::sending::Call;
use super::{Connection, from_http_failure};
use crate::authorization::requested_scope;
use crate::device_authorization::{self, DeviceAuthorization, PendingDevice};
use crate::dialect::Purpose;
use crate::error::{Error, Result};
use crate::event::{Event, EventKind};
use crate::http;
use crate::json;
use crate::platform::Platform;
use crate::secret::SecretString;
use crate::token_request::{self, TokenGrant};
use crate::token_response::{self, Failure};
use serde_json::Value;

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DevicePoll {
    /// The user has not decided; poll again after so many seconds.
    Pending(u64),
    /// The connection is authorized.
    Authorized,
}

/// What the server said to a poll, beside a token.
enum Undecided {
    /// Wait as before.
    Pending,
    /// Wait longer, from now on.
    SlowDown,
    /// It could not be asked: wait twice as long.
    Unreachable,
}

#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
impl<P: Platform> Connection<P> {
    /// Begins a device authorization: what the user is shown. One that was under
    /// way is given up.
    ///
    /// # Errors
    /// Not configured; unsupported, where the grant needs no user or the server
    /// has no endpoint for it; refused; unavailable; a violation; storage.
    pub async fn begin_device_authorization(&self) -> Result<DeviceAuthorization> {
        self.ensure_configured()?;
        if !self.config.grant.needs_user() {
            return Err(Error::unsupported(format!(
                "a device code for the grant {}",
                self.config.grant.grant_type()
            )));
        }
        let server = self.discover().await?;
        server.token_endpoint()?;
        let scope = requested_scope(&self.config, &server);
        let mut form = Vec::new();
        // RFC 8628 section 3.1: in the body, however the client authenticates.
        let id = self.config.client_id.as_deref().unwrap_or_default();
        form.push(("client_id", SecretString::new(id)));
        token_request::put_scope(&self.config.dialect, &scope, &mut form);
        token_request::put_target(&self.config, true, &mut form);
        let further = &self.config.authorization_parameters;
        let call = Call::to(&server, "device_authorization_endpoint", form, further)?;
        let answer = self.ask(&call).await?;
        let now = self.platform.now();
        let (device_code, shown) = device_authorization::read(&answer, now)?;
        let pending = PendingDevice {
            device_code,
            interval_seconds: shown.interval_seconds,
            next_poll_at: now.plus_millis(shown.interval_seconds * 1000),
            expires_at: shown.expires_at,
            scope,
            server: server.clone(),
            binding: self.binding.clone(),
        };
        self.change(&mut |record| {
            record.device = Some(pending.clone());
            Ok(())
        })
        .await?;
        self.tell(&[Event::new(
            now,
            EventKind::AuthorizationBegun,
            "the user was given a code for another device",
        )]);
        Ok(shown)
    }

    /// Asks once whether the user has decided; not at all where it is too soon,
    /// whoever asked last.
    ///
    /// # Errors
    /// Not authorized, where nothing is under way or the code has expired; denied,
    /// where the user said no; refused; a violation; storage. Then it has to be
    /// begun anew. A credential that was there before stays in use.
    pub async fn poll_device_authorization(&self) -> Result<DevicePoll> {
        self.ensure_configured()?;
        let now = self.platform.now();
        let mut found = None;
        let mut wait_millis = 0;
        // The time of the next poll is stored before this one is sent: of two
        // that come together one is too soon.
        let claimed = self
            .change(&mut |record| {
                let device = record.device.as_mut();
                let device = device.filter(|device| device.binding == self.binding);
                let device = device.ok_or_else(none_under_way)?;
                found = Some(device.clone());
                if now >= device.expires_at {
                    record.device = None;
                    return Ok(());
                }
                let interval = device.interval_seconds.saturating_mul(1000);
                wait_millis = device.next_poll_at.millis_since(now);
                // A clock that was set back prolongs no wait.
                if (1..=interval).contains(&wait_millis) {
                    return Err(Error::unavailable("it is too soon"));
                }
                wait_millis = 0;
                device.next_poll_at = now.plus_millis(interval);
                Ok(())
            })
            .await;
        if wait_millis > 0 {
            return Ok(DevicePoll::Pending(wait_millis.div_ceil(1000)));
        }
        claimed?;
        let device = found.ok_or_else(expired)?;
        if now >= device.expires_at {
            return Err(self.note_failed_authorization(expired()).await);
        }
        let polled = match self.poll(&device).await {
            Ok(Ok(new)) => {
                let device_code = &device.device_code;
                let mut events = Vec::new();
                self.change_surely(&mut |record| {
                    events = new.apply_to(record);
                    forget(record, device_code);
                    Ok(())
                })
                .await?;
                self.tell(&events);
                self.settle(&new).await;
                return Ok(DevicePoll::Authorized);
            }
            Ok(Err(undecided)) => Ok(undecided),
            Err(error) => Err(error),
        };
        // What is learnt is put on top of what others have learnt meanwhile; one
        // of them may have brought the token.
        let mut answer = Ok(DevicePoll::Authorized);
        self.change(&mut |record| {
            let is_authorized = record.device.is_none() && self.credential_in(record).is_some();
            let pending = record.device.as_mut();
            let pending = pending.filter(|other| other.device_code == device.device_code);
            let Some(pending) = pending else {
                if !is_authorized {
                    answer = Err(none_under_way());
                }
                return Ok(());
            };
            answer = match &polled {
                Ok(undecided) => {
                    match undecided {
                        Undecided::Pending => {}
                        Undecided::SlowDown => pending.slow_down(),
                        Undecided::Unreachable => pending.back_off(),
                    }
                    Ok(DevicePoll::Pending(pending.interval_seconds))
                }
                Err(error) => {
                    if is_final(error) {
                        record.device = None;
                    }
                    Err(error.clone())
                }
            };
            Ok(())
        })
        .await?;
        match answer {
            Err(error) if is_final(&error) => Err(self.note_failed_authorization(error).await),
            answer => answer,
        }
    }

    async fn poll(
        &self,
        device: &PendingDevice,
    ) -> Result<std::result::Result<super::credential::NewCredential, Undecided>> {
        let grant = TokenGrant::DeviceCode(&device.device_code);
        let form = token_request::form(&self.config, grant);
        let call = Call::for_token(&device.server, Purpose::Token, form)?;
        let request = self.ready(&call).await?;
        let secrets = request.secrets.clone();
        let http = match self.send(&call, request).await {
            Ok(http) => http,
            Err(http::Failure::NotSent(_) | http::Failure::InDoubt(_)) => {
                return Ok(Err(Undecided::Unreachable));
            }
            Err(failure) => return Err(from_http_failure(&call.endpoint, failure)),
        };
        let response = match token_response::read(&http, &self.config.dialect, &secrets) {
            Ok(response) => response,
            // Section 3.5. To others the last of these is an outage.
            Err(Failure::Refused(error)) => {
                return match error.code.as_str() {
                    "authorization_pending" => Ok(Err(Undecided::Pending)),
                    "access_denied" => Err(Error::denied(error)),
                    "expired_token" => Err(expired()),
                    _ => Err(Error::refused(error)),
                };
            }
            Err(Failure::Transient { .. }) if says_slow_down(&http) => {
                return Ok(Err(Undecided::SlowDown));
            }
            Err(Failure::Transient { .. }) => return Ok(Err(Undecided::Unreachable)),
            Err(Failure::Violation(violation)) => {
                return Err(Error::ProtocolViolation(violation).into());
            }
        };
        let new = self.authorized(response, &http, &device.server, None, &device.scope);
        Ok(Ok(new.await?))
    }
}

fn forget(record: &mut crate::record::Record, device_code: &SecretString) {
    let is_this = |device: &PendingDevice| device.device_code == *device_code;
    if record.device.as_ref().is_some_and(is_this) {
        record.device = None;
    }
}

/// Whether an error ends the authorization, and is not one of this machine's.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NotAuthorized(_)
            | Error::Denied(_)
            | Error::Refused(_)
            | Error::ProtocolViolation(_)
    )
}

fn says_slow_down(response: &http::Response) -> bool {
    json::parse_object(&response.body)
        .is_ok_and(|body| body.get("error").and_then(Value::as_str) == Some("slow_down"))
}

fn none_under_way() -> Box<Error> {
    Error::not_authorized("no device authorization is under way; begin one".to_owned())
}

fn expired() -> Box<Error> {
    Error::not_authorized(
        "the device code expired before the user had decided; begin again".to_owned(),
    )
}
