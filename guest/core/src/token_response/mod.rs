//! What the token endpoint's answer means (RFC 6749 sections 5.1 and 5.2).
//!
//! The reading is tolerant: an answer that brings an access token may also bring
//! the only copy of a rotated refresh token, so nothing that is merely odd about
//! it is a reason to throw it away. What was odd is told.

use crate::dialect::{Dialect, Field};
use crate::error::{ServerError, Violation, ViolationKind};
use crate::http::Response;
use crate::json::{self, Object};
use crate::provider;
use crate::secret::{SecretString, printable};
use crate::time::{Timestamp, parse_date, parse_http_date};
use serde_json::Value;

/// The longest lifetime believed, in seconds: a hundred years. More is a
/// number in another unit or a mistake, and would overflow.
const LONGEST_LIFETIME: f64 = 100.0 * 365.0 * 86_400.0;

/// The longest `Retry-After` obeyed, in milliseconds: an hour.
const LONGEST_RETRY_AFTER: u64 = 3_600_000;

/// A token response, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenResponse {
    /// `access_token`; empty only where a refresh prolongs the earlier one, as the
    /// dialect declares it.
    pub access_token: SecretString,
    /// `token_type`; where the server does not say, `Bearer`, or `N_A` for what is
    /// issued as something else than an access token.
    pub token_type: String,
    /// `issued_token_type`, which is told of a token exchange (RFC 8693 section
    /// 2.2.1).
    pub issued_token_type: Option<String>,
    /// `expires_in`, in milliseconds.
    pub lifetime_millis: Option<u64>,
    /// `refresh_token`.
    pub refresh_token: Option<SecretString>,
    /// `refresh_expires_in` or `refresh_token_expires_in`, in milliseconds.
    pub refresh_lifetime_millis: Option<u64>,
    /// `scope`; `None` where the server does not say, so that it is as asked
    /// (RFC 6749 section 5.1).
    pub scope: Option<Vec<String>>,
    /// `id_token` (OpenID Connect Core section 3.1.3.3).
    pub id_token: Option<SecretString>,
    /// The response, whole, as a JSON object.
    pub raw: SecretString,
    /// What departed from the standard, a sentence each.
    pub quirks: Vec<String>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The server said no (RFC 6749 section 5.2).
    Refused(ServerError),
    /// It will pass: overload, outage, an error without a name.
    Transient {
        /// What happened.
        cause: String,
        /// How long the server asks to wait (RFC 9110 section 10.2.3).
        retry_after_millis: Option<u64>,
    },
    /// What came is no answer of a token endpoint.
    Violation(Violation),
}

/// Reads the answer to a request that carried those secrets: servers have been
/// seen to repeat them in their error texts. What the dialect declares is put in
/// order first; what is read of it then is read as of any server.
///
/// # Errors
/// What it says, where it brings no token.
pub fn read(
    response: &Response,
    dialect: &Dialect,
    secrets: &[SecretString],
) -> Result<TokenResponse, Failure> {
    let body = Body::read(response);
    if (300..400).contains(&response.status) {
        // RFC 9700 section 4.12: followed, the credentials would go along.
        let target = response.header("location").unwrap_or("nowhere");
        return Err(violation(format!(
            "the token endpoint answered with a redirect ({}) to {}, which is not followed",
            response.status,
            printable(target.split('?').next().unwrap_or_default(), secrets)
        )));
    }
    let mut quirks = Vec::new();
    let fields = body.fields.as_ref();
    let fields = fields.map(|raw| standardised(raw, dialect, &mut quirks));
    if let Some(error) = fields
        .as_ref()
        .and_then(|fields| error_in(fields, response.status, secrets))
    {
        return Err(classify(error, response));
    }
    if !(200..300).contains(&response.status) {
        return Err(transient(
            format!(
                "the token endpoint answered with the status {}",
                response.status
            ),
            response,
        ));
    }
    let (Some(fields), Some(raw)) = (fields, body.fields) else {
        return Err(violation(format!(
            "the token endpoint answered with {}, not with JSON",
            body.description
        )));
    };
    if body.is_form {
        quirks.push("the response was a form, not JSON".to_owned());
    }
    let mut reading = Reading {
        fields: &fields,
        is_form: body.is_form,
        dialect,
        server_now: response.arrived_at.by_server(clock_skew_millis(response)),
        quirks,
    };
    let token = reading.token()?;
    Ok(TokenResponse {
        quirks: reading.quirks,
        raw: SecretString::new(json::text(&Value::Object(raw))),
        ..token
    })
}

/// A response by the standard's names, from one by the dialect's.
fn standardised(raw: &Object, dialect: &Dialect, quirks: &mut Vec<String>) -> Object {
    let mut fields = raw.clone();
    let mut tell = |field, value| quirks.extend(provider::sentence(field, value));
    if let Some(path) = dialect.get(Field::RESPONSE_WRAPPER)
        && let Some(Value::Object(inner)) = at(raw, path)
    {
        fields.extend(inner.clone());
        tell(Field::RESPONSE_WRAPPER, path);
    }
    let has_token = |fields: &Object| {
        let token = fields.get("access_token").and_then(Value::as_str);
        token.is_some_and(|token| !token.is_empty())
    };
    for line in dialect.all(Field::RESPONSE_FIELDS) {
        let (name, path) = line.pair();
        let mut paths = path.split('|');
        let found = paths.find_map(|path| at(raw, path).or_else(|| at(&fields, path)));
        let Some(value) = found else {
            continue;
        };
        let value = value.clone();
        if !name.starts_with("error") {
            tell(Field::RESPONSE_FIELDS, line.value);
            fields.insert(name.to_owned(), value);
        } else if !has_token(&fields) {
            fields.insert(name.to_owned(), Value::from(scalar(&value)));
        }
    }
    let success = dialect.get(Field::SUCCESS_FIELD);
    if let (Some(path), Some(wanted)) = (success, dialect.get(Field::SUCCESS_VALUE))
        && let Some(found) = at(raw, path).map(scalar)
        && found != wanted
        && !fields.get("error").is_some_and(Value::is_string)
    {
        fields.insert("error".to_owned(), Value::from(found));
    }
    if let Some(code) = fields.get("error").map(scalar) {
        // Some have one code for many errors, and another text for each.
        let description = fields.get("error_description").and_then(Value::as_str);
        let known = |text| dialect.named(Field::ERROR_CODES, text);
        if let Some(standard) = description.and_then(known).or_else(|| known(&code)) {
            fields.insert("error".to_owned(), Value::from(standard));
            // What the server calls it is worth showing.
            let description = fields.entry("error_description");
            description.or_insert_with(|| Value::from(code));
        }
    }
    if let Some(token_type) = dialect.get(Field::TOKEN_TYPE) {
        let told = fields.insert("token_type".to_owned(), Value::from(token_type));
        let told = told.as_ref().and_then(Value::as_str);
        if !told.is_some_and(|told| told.eq_ignore_ascii_case(token_type)) {
            tell(Field::TOKEN_TYPE, token_type);
        }
    }
    if dialect.has(Field::REFRESH_WITH_ACCESS_TOKEN)
        && let Some(access_token) = fields.get("access_token").cloned()
    {
        tell(Field::REFRESH_WITH_ACCESS_TOKEN, "");
        fields.insert("refresh_token".to_owned(), access_token);
    }
    fields
}

/// The value at a path of names and places with dots between.
fn at<'a>(fields: &'a Object, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut value = fields.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Value::Array(values) => values.get(part.parse::<usize>().ok()?)?,
            value => value.get(part)?,
        };
    }
    Some(value)
}

/// A value as text.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => json::text(other),
    }
}

/// A success without a token.
pub(crate) fn no_token() -> Violation {
    Violation {
        kind: ViolationKind::Response,
        message: "the token endpoint's answer brings no access_token".to_owned(),
    }
}

fn violation(message: String) -> Failure {
    Failure::Violation(Violation {
        kind: ViolationKind::Response,
        message,
    })
}

fn transient(cause: String, response: &Response) -> Failure {
    Failure::Transient {
        cause,
        retry_after_millis: retry_after(response),
    }
}

/// A body, as JSON or as a form.
struct Body {
    fields: Option<Object>,
    is_form: bool,
    description: &'static str,
}

impl Body {
    fn read(response: &Response) -> Self {
        let body = response.body.as_slice();
        if let Ok(fields) = json::parse_object(body) {
            return Self {
                fields: Some(fields),
                is_form: false,
                description: "a JSON object",
            };
        }
        let mut form = Object::new();
        for (name, value) in form_urlencoded::parse(body) {
            form.insert(name.into_owned(), Value::from(value));
        }
        // Anything parses as a form; one that names neither is something else.
        let is_form = form.contains_key("access_token") || form.contains_key("error");
        let start = body.iter().find(|byte| !byte.is_ascii_whitespace());
        Self {
            fields: is_form.then_some(form),
            is_form,
            description: match start {
                None => "nothing",
                Some(b'<') => "a page of HTML or XML",
                Some(b'{') => "JSON that is broken off or malformed",
                Some(_) => "text that is neither JSON nor a form",
            },
        }
    }
}

/// The error of RFC 6749 section 5.2, wherever a server puts its name.
fn error_in(fields: &Object, status: u16, secrets: &[SecretString]) -> Option<ServerError> {
    let text = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str);
        text.map(|text| printable(text, secrets))
    };
    let (code, description) = match fields.get("error")? {
        Value::String(code) if !code.is_empty() => (printable(code, secrets), None),
        // Some servers put an object there; its message is worth showing, but
        // it is no OAuth error code.
        Value::Object(object) => (
            text(object.get("code"))
                .or_else(|| text(object.get("type")))
                .unwrap_or_default(),
            text(object.get("message")),
        ),
        _ => return None,
    };
    let description = text(fields.get("error_description")).or(description);
    let uri = text(fields.get("error_uri"));
    Some(ServerError::new(code, description, uri, Some(status)))
}

/// Tells a refusal from an outage: a server that is failing says nothing about
/// the credential, whatever name it gives its failure.
fn classify(error: ServerError, response: &Response) -> Failure {
    let is_outage = response.status >= 500
        || response.status == 429
        || matches!(
            error.code.as_str(),
            "" | "temporarily_unavailable" | "server_error" | "slow_down" | "too_many_requests"
        );
    if is_outage {
        let name = if error.code.is_empty() {
            "an error"
        } else {
            error.code.as_str()
        };
        let cause = match &error.description {
            Some(description) => format!("{name} ({description})"),
            None => name.to_owned(),
        };
        return transient(
            format!(
                "the token endpoint answered {} with {cause}",
                response.status
            ),
            response,
        );
    }
    Failure::Refused(error)
}

/// How long the server asks to wait, in milliseconds, at most an hour: seconds,
/// or a date by the server's own clock.
fn retry_after(response: &Response) -> Option<u64> {
    let text = response.header("retry-after")?.trim();
    let millis = match text.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1000),
        Err(_) => {
            let server_now = date(response).unwrap_or(response.arrived_at);
            parse_http_date(text)?.millis_since(server_now)
        }
    };
    Some(millis.min(LONGEST_RETRY_AFTER))
}

fn date(response: &Response) -> Option<Timestamp> {
    response.header("date").and_then(parse_http_date)
}

/// How far the server's clock is ahead of the host's, in milliseconds, by the
/// response's `Date`; 0 where it has none.
pub fn clock_skew_millis(response: &Response) -> i64 {
    measured_skew_millis(response).unwrap_or(0)
}

/// The same, where the response tells. `Date` counts whole seconds, so less than
/// two is no skew.
pub(crate) fn measured_skew_millis(response: &Response) -> Option<i64> {
    let server = date(response)?;
    let ahead = server.millis_since(response.arrived_at);
    let behind = response.arrived_at.millis_since(server);
    if ahead.max(behind) < 2000 {
        return Some(0);
    }
    Some(i64::try_from(ahead).unwrap_or(0) - i64::try_from(behind).unwrap_or(0))
}

/// A response by the standard's names while it is read.
struct Reading<'a> {
    fields: &'a Object,
    is_form: bool,
    dialect: &'a Dialect,
    server_now: Timestamp,
    quirks: Vec<String>,
}

impl Reading<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.fields.get(name).and_then(Value::as_str);
        value.filter(|text| !text.is_empty())
    }

    fn token(&mut self) -> Result<TokenResponse, Failure> {
        let secret = |text: Option<&str>| text.map(SecretString::new);
        let access_token = match secret(self.text("access_token")) {
            Some(access_token) => access_token,
            None if self.dialect.has(Field::REFRESH_EXTENDS_TOKEN) => {
                let quirk = provider::sentence(Field::REFRESH_EXTENDS_TOKEN, "");
                self.quirks.extend(quirk);
                SecretString::default()
            }
            None => return Err(Failure::Violation(no_token())),
        };
        let issued_token_type = self.text("issued_token_type").map(str::to_owned);
        let token_type = match self.text("token_type") {
            Some(token_type) => token_type.to_owned(),
            None => {
                let token_type = match issued_token_type.as_deref() {
                    None
                    | Some(
                        "urn:ietf:params:oauth:token-type:access_token"
                        | "urn:ietf:params:oauth:token-type:jwt",
                    ) => "Bearer",
                    Some(_) => "N_A",
                };
                let quirk = ["token_type was missing and taken to be ", token_type];
                self.quirks.push(quirk.concat());
                token_type.to_owned()
            }
        };
        let lifetime_millis = self.lifetime("expires_in");
        let refresh_lifetime_millis = ["refresh_expires_in", "refresh_token_expires_in"]
            .iter()
            .find_map(|name| self.lifetime(name));
        Ok(TokenResponse {
            access_token,
            token_type,
            issued_token_type,
            lifetime_millis,
            refresh_token: secret(self.text("refresh_token")),
            refresh_lifetime_millis,
            scope: self.scope(),
            id_token: secret(self.text("id_token")),
            quirks: Vec::new(),
            raw: SecretString::default(),
        })
    }

    fn scope(&mut self) -> Option<Vec<String>> {
        let declared = self.dialect.get(Field::RESPONSE_SCOPE_SEPARATOR);
        let separator = declared.or_else(|| self.dialect.get(Field::SCOPE_SEPARATOR));
        match self.fields.get("scope")? {
            Value::String(scope) => {
                if let Some(separator) = declared.filter(|separator| scope.contains(separator)) {
                    let quirk = provider::sentence(Field::RESPONSE_SCOPE_SEPARATOR, separator);
                    self.quirks.extend(quirk);
                }
                let is_between = |character: char| {
                    character.is_ascii_whitespace()
                        || separator.is_some_and(|separator| separator.starts_with(character))
                };
                let scopes = scope.split(is_between).filter(|scope| !scope.is_empty());
                Some(scopes.map(str::to_owned).collect())
            }
            Value::Array(scopes) => {
                let quirk = "scope was an array, not a string";
                self.quirks.push(quirk.to_owned());
                let scopes = scopes.iter().filter_map(Value::as_str);
                Some(scopes.map(str::to_owned).collect())
            }
            _ => None,
        }
    }

    /// A lifetime in milliseconds, `None` where it is not told or makes no sense.
    fn lifetime(&mut self, name: &str) -> Option<u64> {
        let value = self.fields.get(name)?;
        let unit = self.dialect.get(Field::EXPIRY_UNIT);
        let quirks = &mut self.quirks;
        let mut odd = |what: &str| quirks.push(format!("{name} was {what}"));
        let told = match value {
            Value::Null => return None,
            Value::Number(number) => number.as_f64()?,
            Value::String(text) if unit == Some("date") => match parse_date(text) {
                Some(date) => date.seconds() as f64,
                None => {
                    odd("not a date and was ignored");
                    return None;
                }
            },
            Value::String(text) => {
                // Fractions of a second are of no use, and a reader of decimals
                // costs the component 15 KB.
                let whole = text.trim().split('.').next().unwrap_or_default();
                let Ok(seconds) = whole.parse::<i64>() else {
                    odd("not a number and was ignored");
                    return None;
                };
                if !self.is_form {
                    odd("a string");
                }
                seconds as f64
            }
            _ => {
                odd("not a number and was ignored");
                return None;
            }
        };
        let server_now = self.server_now.0 as f64 / 1000.0;
        let seconds = match unit {
            None => told,
            Some("milliseconds") => told / 1000.0,
            Some(_) => told - server_now,
        };
        // A token that lives no time at all is of no use to anybody; servers that
        // say 0 mean that it does not expire.
        if seconds.is_nan() || seconds <= 0.0 {
            odd("not positive and was ignored");
            return None;
        }
        if let Some(unit) = unit {
            quirks.extend(provider::sentence(Field::EXPIRY_UNIT, unit));
        }
        // The cast saturates, and the value is bounded anyway.
        Some((seconds.min(LONGEST_LIFETIME) * 1000.0) as u64)
    }
}

impl TokenResponse {
    /// Tells what is odd about the type of a token that another was exchanged for.
    /// Where none was requested it is for the server to choose (RFC 8693 section
    /// 2.1); what can be done with the token is for `token_type` to say.
    pub(crate) fn check_issued_type(&mut self, requested: Option<&str>) {
        let quirk = match (&self.issued_token_type, requested) {
            (None, _) => "issued_token_type was missing".to_owned(),
            (Some(issued), Some(requested)) if issued != requested => {
                let issued = printable(issued, &[]);
                [
                    "the token issued is of the type ",
                    &issued,
                    ", not of the one requested",
                ]
                .concat()
            }
            _ => return,
        };
        self.quirks.push(quirk);
    }

    /// Takes the token that this one was exchanged for. What only this response
    /// has, such as the scope, stays.
    pub(crate) fn replace_token(&mut self, mut later: Self) {
        std::mem::swap(self, &mut later);
        self.quirks = later.quirks;
        self.scope = self.scope.take().or(later.scope);
        self.id_token = self.id_token.take().or(later.id_token);
    }
}

/// Puts what came in the redirect, or with an earlier response, with a response,
/// where callers look for it.
pub(crate) fn keep(raw: &mut SecretString, kept: &[(String, String)]) {
    if kept.is_empty() {
        return;
    }
    let Ok(mut fields) = json::parse_object(raw.reveal().as_bytes()) else {
        return;
    };
    for (name, value) in kept {
        let value = || Value::from(value.as_str());
        fields.entry(name.as_str()).or_insert_with(value);
    }
    *raw = SecretString::new(json::text(&Value::Object(fields)));
}

/// What an earlier response was kept together with.
pub(crate) fn kept_in(raw: &SecretString, dialect: &Dialect) -> Vec<(String, String)> {
    let fields = json::parse_object(raw.reveal().as_bytes()).unwrap_or_default();
    let mut kept = Vec::new();
    for line in dialect.all(Field::CALLBACK_PARAMETERS) {
        if let Some(value) = fields.get(line.value).and_then(Value::as_str) {
            kept.push((line.value.to_owned(), value.to_owned()));
        }
    }
    kept
}

#[cfg(test)]
mod replays;
#[cfg(test)]
mod tests;
