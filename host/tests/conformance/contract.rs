//! Values of the contract as JSON, by the names of the WIT.

use std::fmt::Debug;

use serde_json::{Map, Value, json};
use tokenwell::{
    AuthorizationOptions, AuthorizeOptions, ConnectionError, ConnectionState, DeviceAuthorization,
    DevicePoll, Error, ErrorKind, Event, Parameter, PendingAuthorization, Problem, Prompt,
    ResolvedField, ServerError, Status, Token, TokenOptions,
};

use super::matching::{Outcome, elements, known, text};

/// The WIT's name of a case without payload, from the name in Rust.
pub fn name(case: impl Debug) -> Value {
    let mut name = String::new();
    for (i, letter) in format!("{case:?}").chars().enumerate() {
        if letter.is_uppercase() && i > 0 {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    Value::String(name)
}

pub fn token(token: Token) -> Value {
    json!({
        "access-token": token.access_token,
        "token-type": token.token_type,
        "expires-at": token.expires_at,
        "fresh-until": token.fresh_until,
        "scope": token.scope,
        "refreshable": token.refreshable,
    })
}

pub fn status(status: Status) -> Value {
    let state = match status.state {
        ConnectionState::NotConfigured(found) => json!({"not-configured": problems(found)}),
        ConnectionState::NotAuthorized => json!("not-authorized"),
        ConnectionState::Authorized => json!("authorized"),
        ConnectionState::Error(failure) => json!({"error": connection_error(failure)}),
    };
    let renewal = status
        .last_renewal
        .map(|renewal| json!({"at": renewal.at, "reason": name(renewal.reason)}));
    json!({
        "state": state,
        "expires-at": status.expires_at,
        "refreshable": status.refreshable,
        "refresh-expires-at": status.refresh_expires_at,
        "scope": status.scope,
        "authorized-at": status.authorized_at,
        "last-renewal": renewal,
        "next-retry-at": status.next_retry_at,
        "warnings": problems(status.warnings),
    })
}

pub fn problems(problems: Vec<Problem>) -> Value {
    let problems = problems.into_iter().map(|problem| {
        json!({
            "field": problem.field,
            "severity": name(problem.severity),
            "message": problem.message,
            "mend": problem.mend,
        })
    });
    problems.collect()
}

pub fn resolved(fields: Vec<ResolvedField>) -> Value {
    let fields = fields.into_iter().map(
        |field| json!({"field": field.field, "value": field.value, "origin": name(field.origin)}),
    );
    fields.collect()
}

pub fn events(events: Vec<Event>) -> Value {
    events.into_iter().map(event).collect()
}

pub fn event(event: Event) -> Value {
    let details = event.details.into_iter();
    json!({
        "at": event.at,
        "connection": event.connection,
        "kind": event.kind,
        "message": event.message,
        "details": details.map(|Parameter { name, value }| json!({"name": name, "value": value})).collect::<Value>(),
    })
}

pub fn headers(headers: Vec<Parameter>) -> Value {
    let headers = headers.into_iter();
    Value::Object(
        headers
            .map(|Parameter { name, value }| (name.to_ascii_lowercase(), Value::String(value)))
            .collect::<Map<_, _>>(),
    )
}

pub fn pending(pending: PendingAuthorization) -> Value {
    json!({
        "authorization-url": pending.authorization_url,
        "state": pending.state,
        "redirect-uri": pending.redirect_uri,
        "expires-at": pending.expires_at,
        "url-expires-at": pending.url_expires_at,
    })
}

pub fn device(device: DeviceAuthorization) -> Value {
    json!({
        "user-code": device.user_code,
        "verification-uri": device.verification_uri,
        "verification-uri-complete": device.verification_uri_complete,
        "expires-at": device.expires_at,
        "interval-seconds": device.interval_seconds,
    })
}

pub fn poll(poll: DevicePoll) -> Value {
    match poll {
        DevicePoll::Pending(seconds) => json!({ "pending": seconds }),
        DevicePoll::Authorized => json!("authorized"),
    }
}

fn said(said: ServerError) -> Value {
    json!({
        "code": said.code,
        "description": said.description,
        "http-status": said.http_status,
    })
}

fn connection_error(error: ConnectionError) -> Value {
    json!({
        "kind": name(error.kind),
        "message": error.message,
        "problems": problems(error.problems),
        "server-error": error.server_error.map(said),
        "retry-at": error.retry_at,
        "violation": error.violation.map(name),
        "storage": error.storage.map(name),
    })
}

/// The library's error in the form of the contract's. What only a host can fail
/// at has no kind.
pub fn error(error: Error) -> Value {
    let message = error.to_string();
    let of = |kind: ErrorKind, more: Value| {
        let mut error = json!({"kind": name(kind), "message": message});
        if let (Value::Object(error), Value::Object(more)) = (&mut error, more) {
            error.extend(more);
        }
        error
    };
    match error {
        Error::NotConfigured(found) => of(
            ErrorKind::NotConfigured,
            json!({"problems": problems(found)}),
        ),
        Error::NotAuthorized(_) => of(ErrorKind::NotAuthorized, json!({})),
        Error::ReauthorizationRequired(required) => of(
            ErrorKind::ReauthorizationRequired,
            json!({"server-error": required.error.map(said)}),
        ),
        Error::Denied(server) => of(ErrorKind::Denied, json!({"server-error": said(server)})),
        Error::Refused(server) => of(ErrorKind::Refused, json!({"server-error": said(server)})),
        Error::Unavailable(failure) => of(
            ErrorKind::Unavailable,
            json!({"retry-at": failure.retry_at}),
        ),
        Error::ProtocolViolation(violation) => of(
            ErrorKind::ProtocolViolation,
            json!({"violation": name(violation.kind)}),
        ),
        Error::Storage(failure) => of(ErrorKind::Storage, json!({"storage": name(failure.kind)})),
        Error::Forbidden(_) => of(ErrorKind::Forbidden, json!({})),
        Error::Unsupported(_) => of(ErrorKind::Unsupported, json!({})),
        _ => json!({"kind": null, "message": message}),
    }
}

pub fn token_options(with: &Value) -> Outcome<TokenOptions> {
    if with.is_null() {
        return Ok(TokenOptions::default());
    }
    known(with, &["min-validity-seconds", "rejected"])?;
    Ok(TokenOptions {
        min_validity_seconds: number(with, "min-validity-seconds")?,
        rejected: optional(with, "rejected"),
    })
}

pub fn authorization_options(with: &Value) -> Outcome<AuthorizationOptions> {
    if with.is_null() {
        return Ok(AuthorizationOptions::default());
    }
    known(
        with,
        &["redirect-uri", "prompt", "login-hint", "parameters"],
    )?;
    let prompts = elements(with, "prompt").iter().map(|prompt| {
        let prompts = [
            Prompt::None,
            Prompt::Login,
            Prompt::Consent,
            Prompt::SelectAccount,
        ];
        let mut prompts = prompts.into_iter();
        let found = prompts.find(|known| name(known) == *prompt);
        found.ok_or_else(|| format!("{prompt} is no prompt"))
    });
    let parameters = elements(with, "parameters").iter().map(|parameter| {
        Ok(Parameter {
            name: text(parameter, "name")?.to_owned(),
            value: text(parameter, "value")?.to_owned(),
        })
    });
    Ok(AuthorizationOptions {
        redirect_uri: optional(with, "redirect-uri"),
        login_hint: optional(with, "login-hint"),
        prompt: prompts.collect::<Outcome<_>>()?,
        parameters: parameters.collect::<Outcome<_>>()?,
    })
}

pub fn authorize_options(with: &Value) -> Outcome<AuthorizeOptions> {
    if !with.is_null() {
        known(with, &["timeout-seconds", "device", "authorization"])?;
    }
    Ok(AuthorizeOptions {
        timeout_seconds: number(with, "timeout-seconds")?,
        device: with.get("device").and_then(Value::as_bool).unwrap_or(false),
        authorization: authorization_options(&with["authorization"])?,
    })
}

/// A text member that may be missing.
pub fn optional(object: &Value, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn number(object: &Value, name: &str) -> Outcome<Option<u32>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .and_then(|number| number.try_into().ok())
            .map(Some)
            .ok_or_else(|| format!("{value} is no number for `{name}`")),
    }
}
