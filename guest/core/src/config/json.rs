//! The JSON form of a config: one flat object whose fields bear the registered
//! names.
//!
//! It is read by hand and not derived, so that every problem is told at once,
//! each with its field and a mend.

use super::{
    BasicEncoding, ClientAuthentication, Config, Grant, Parameter, Problem, Prompt,
    PushedAuthorization, RenewalPolicy, ResponseMode, Secret, TlsMode,
};
use crate::json::{self, Object};
use serde_json::Value;

/// The fields that belong to one grant, with the `grant_type` that has them.
const GRANT_FIELDS: &[(&str, &str)] = &[
    ("username", "password"),
    ("password", "password"),
    ("assertion", "jwt_bearer"),
    ("assertion_issuer", "jwt_bearer"),
    ("assertion_subject", "jwt_bearer"),
    ("assertion_audience", "jwt_bearer"),
    ("assertion_claims", "jwt_bearer"),
    ("subject_token", "token_exchange"),
    ("subject_token_type", "token_exchange"),
    ("actor_token", "token_exchange"),
    ("actor_token_type", "token_exchange"),
    ("requested_token_type", "token_exchange"),
    ("refresh_token", "refresh_token"),
];

/// The fields that may hold a literal secret.
pub const SECRET_FIELDS: &[&str] = &[
    "client_secret",
    "password",
    "assertion",
    "subject_token",
    "actor_token",
    "refresh_token",
];

/// The names of the grants in a config, beside their URNs.
const GRANT_TYPES: [(&str, &str); 7] = [
    ("authorization_code", "authorization_code"),
    ("client_credentials", "client_credentials"),
    ("password", "password"),
    (
        "device_code",
        "urn:ietf:params:oauth:grant-type:device_code",
    ),
    ("jwt_bearer", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
    (
        "token_exchange",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ),
    ("refresh_token", "refresh_token"),
];

/// The registered value of `grant_type` (RFC 7591 section 2) that a config has by
/// that name.
pub fn registered_grant_type(name: &str) -> &str {
    let known = GRANT_TYPES.iter().find(|(known, _)| *known == name);
    known.map_or(name, |(_, registered)| registered)
}

/// Reads a config from its JSON form.
///
/// # Errors
/// Every problem at once, where the form is wrong: unknown fields, wrong types,
/// unknown values, and what is missing besides. What a well-formed config lacks
/// is for [`check`](super::check) to say.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let fields = json::parse_object(text.as_bytes()).map_err(|what| {
        vec![Problem::error(
            "",
            &format!("this is not a JSON object: {what}"),
            "write one JSON object, such as {\"client_id\": \"…\"}",
        )]
    })?;
    let mut reader = Reader {
        prefix: "",
        fields,
        known: Vec::new(),
        problems: Vec::new(),
    };
    let mut config = Config::default();
    let grant = &mut config.grant;
    *grant = read_grant(&mut reader);
    each_field(&mut config, &mut |field, place| reader.read(field, place));
    let mut problems = reader.finish();
    if problems.is_empty() {
        return Ok(config);
    }
    // What the fields that could be read lack is said as well, so that nobody
    // mends one thing only to be told of the next.
    for problem in super::errors_in(&super::check(&config)) {
        if problems.iter().all(|told| told.field != problem.field) {
            problems.push(problem);
        }
    }
    Err(problems)
}

/// Where a config holds the value of a field, which says what the field may be.
enum Place<'a> {
    Text(&'a mut Option<String>),
    Number(&'a mut Option<u32>),
    Secret(&'a mut Option<Secret>),
    Reference(&'a mut Option<String>),
    /// A JSON object, kept as text.
    Object(&'a mut Option<String>),
    /// A list that may be written as one string.
    Words(&'a mut Vec<String>),
    List(&'a mut Vec<String>),
    Parameters(&'a mut Vec<Parameter>),
    Choice(&'a mut Option<bool>),
    /// What is on unless the config says otherwise.
    On(&'a mut bool),
    /// What is off unless the config says otherwise.
    Off(&'a mut bool),
    Authentication(&'a mut Option<ClientAuthentication>),
    Encoding(&'a mut Option<BasicEncoding>),
    ResponseMode(&'a mut Option<ResponseMode>),
    Tls(&'a mut TlsMode),
    Prompts(&'a mut Vec<Prompt>),
    Pushed(&'a mut PushedAuthorization),
    Renewal(&'a mut RenewalPolicy),
}

/// Visits the places of every field but `grant_type`: this is the list of the
/// fields, for reading and for writing.
fn each_field(config: &mut Config, visit: &mut dyn FnMut(&'static str, Place<'_>)) {
    use Place::*;
    each_grant_field(&mut config.grant, visit);
    for (name, url) in config.endpoints.iter_mut() {
        visit(name, Text(url));
    }
    visit("provider", Text(&mut config.provider));
    visit("parameters", Parameters(&mut config.parameters));
    visit("client_id", Text(&mut config.client_id));
    visit("client_secret", Secret(&mut config.client_secret));
    visit(
        "token_endpoint_auth_method",
        Authentication(&mut config.client_authentication),
    );
    visit(
        "client_secret_basic_encoding",
        Encoding(&mut config.basic_encoding),
    );
    visit("signing_key", Reference(&mut config.signing_key));
    visit(
        "client_certificate",
        Reference(&mut config.client_certificate),
    );
    visit(
        "client_certificate_key",
        Reference(&mut config.client_certificate_key),
    );
    visit("scope", Words(&mut config.scope));
    visit("resource", List(&mut config.resource));
    visit("audience", List(&mut config.audience));
    visit("issuer", Text(&mut config.issuer));
    visit("redirect_uri", Text(&mut config.redirect_uri));
    visit("response_mode", ResponseMode(&mut config.response_mode));
    visit("pkce", On(&mut config.pkce));
    visit("prompt", Prompts(&mut config.prompt));
    visit("max_age", Number(&mut config.max_age));
    visit("offline_access", Choice(&mut config.offline_access));
    visit(
        "authorization_parameters",
        Parameters(&mut config.authorization_parameters),
    );
    visit("token_parameters", Parameters(&mut config.token_parameters));
    visit("token_headers", Parameters(&mut config.token_headers));
    visit("dpop", Off(&mut config.dpop));
    visit("par", Pushed(&mut config.pushed_authorization));
    visit("request_object", Off(&mut config.request_object));
    visit("tls", Tls(&mut config.tls));
    visit("timeout", Number(&mut config.timeout));
    visit(
        "ignore_cookie_policy",
        Off(&mut config.ignore_cookie_policy),
    );
    visit("renewal", Renewal(&mut config.renewal));
}

fn each_grant_field(grant: &mut Grant, visit: &mut dyn FnMut(&'static str, Place<'_>)) {
    use Place::*;
    match grant {
        Grant::AuthorizationCode
        | Grant::ClientCredentials
        | Grant::DeviceCode
        | Grant::Extension(_) => {}
        Grant::Password { username, password } => {
            visit("username", Text(username));
            visit("password", Secret(password));
        }
        Grant::JwtBearer {
            assertion,
            issuer,
            subject,
            audience,
            claims,
        } => {
            visit("assertion", Secret(assertion));
            visit("assertion_issuer", Text(issuer));
            visit("assertion_subject", Text(subject));
            visit("assertion_audience", Text(audience));
            visit("assertion_claims", Object(claims));
        }
        Grant::TokenExchange {
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            requested_token_type,
        } => {
            visit("subject_token", Secret(subject_token));
            visit("subject_token_type", Text(subject_token_type));
            visit("actor_token", Secret(actor_token));
            visit("actor_token_type", Text(actor_token_type));
            visit("requested_token_type", Text(requested_token_type));
        }
        Grant::RefreshToken { refresh_token } => visit("refresh_token", Secret(refresh_token)),
    }
}

fn each_renewal_field(renewal: &mut RenewalPolicy, visit: &mut dyn FnMut(&'static str, Place<'_>)) {
    use Place::Number;
    visit("early_seconds", Number(&mut renewal.early_seconds));
    visit("max_attempts", Number(&mut renewal.max_attempts));
    visit(
        "first_retry_seconds",
        Number(&mut renewal.first_retry_seconds),
    );
    visit("max_retry_seconds", Number(&mut renewal.max_retry_seconds));
    visit(
        "default_lifetime_seconds",
        Number(&mut renewal.default_lifetime_seconds),
    );
}

/// The grant that `grant_type` names, its fields yet to be read.
fn read_grant(reader: &mut Reader) -> Grant {
    let grant_type = reader.string("grant_type");
    let name = match &grant_type {
        None => "authorization_code",
        Some(text) => GRANT_TYPES
            .iter()
            .find(|(name, urn)| text == name || text == urn)
            .map_or(text.as_str(), |(name, _)| name),
    };
    for (field, owner) in GRANT_FIELDS {
        if *owner != name && reader.take(field).is_some() {
            // An extension grant, which says itself what it sends.
            let mend = match name.contains(':') && super::is_of_grant(field) {
                true => "put it into token_parameters".to_owned(),
                false => format!("remove it, or set grant_type to {owner}"),
            };
            let message = format!("does not belong to the grant {name}");
            reader.problem(field, &message, &mend);
        }
    }
    match name {
        "authorization_code" => Grant::AuthorizationCode,
        "client_credentials" => Grant::ClientCredentials,
        "password" => Grant::Password {
            username: None,
            password: None,
        },
        "device_code" => Grant::DeviceCode,
        "jwt_bearer" => Grant::JwtBearer {
            assertion: None,
            issuer: None,
            subject: None,
            audience: None,
            claims: None,
        },
        "token_exchange" => Grant::TokenExchange {
            subject_token: None,
            subject_token_type: None,
            actor_token: None,
            actor_token_type: None,
            requested_token_type: None,
        },
        "refresh_token" => Grant::RefreshToken {
            refresh_token: None,
        },
        "implicit" => {
            reader.problem(
                "grant_type",
                "the implicit grant is not offered (RFC 9700 section 2.1.2)",
                "use authorization_code",
            );
            Grant::default()
        }
        // An extension's name is a URI (RFC 6749 section 4.5); the few that
        // providers made up without one are told in the catalogue.
        other if other.contains(':') => Grant::Extension(other.to_owned()),
        other => {
            let names = GRANT_TYPES.map(|(name, _)| name);
            let mend = choose_from(other, &names);
            let message = format!("\"{other}\" is not a grant");
            reader.problem("grant_type", &message, &mend);
            Grant::default()
        }
    }
}

/// Takes fields out of an object and notes what is wrong with them.
struct Reader {
    prefix: &'static str,
    fields: Object,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Reads a field into its place; what is absent or wrong leaves it as it is.
    fn read(&mut self, field: &'static str, place: Place<'_>) {
        match place {
            Place::Text(place) => *place = self.string(field),
            Place::Number(place) => *place = self.whole_number(field),
            Place::Secret(place) => *place = self.secret(field),
            Place::Reference(place) => *place = self.reference(field),
            Place::Object(place) => *place = self.object(field),
            Place::Words(place) => *place = self.words(field),
            Place::List(place) => *place = self.list(field),
            Place::Parameters(place) => *place = self.parameters(field),
            Place::Choice(place) => *place = self.boolean(field),
            Place::On(place) | Place::Off(place) => {
                *place = self.boolean(field).unwrap_or(*place);
            }
            Place::Authentication(place) => *place = self.named(field, ClientAuthentication::NAMES),
            Place::Encoding(place) => *place = self.named(field, BasicEncoding::NAMES),
            Place::ResponseMode(place) => *place = self.named(field, ResponseMode::NAMES),
            Place::Tls(place) => *place = self.named(field, TlsMode::NAMES).unwrap_or(*place),
            Place::Prompts(place) => *place = self.prompts(field),
            Place::Pushed(place) => *place = self.pushed_authorization(field),
            Place::Renewal(place) => self.renewal(field, place),
        }
    }

    /// The value of a field; null is none.
    fn take(&mut self, field: &'static str) -> Option<Value> {
        self.known.push(field);
        self.fields
            .get(field)
            .filter(|value| !value.is_null())
            .cloned()
    }

    fn problem(&mut self, field: &str, message: &str, mend: &str) {
        let field = format!("{}{field}", self.prefix);
        self.problems.push(Problem::error(&field, message, mend));
    }

    fn wrong_type(&mut self, field: &str, value: &Value, wanted: &str) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.problem(field, &format!("is {found}"), &format!("write {wanted}"));
    }

    fn string(&mut self, field: &'static str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(field, &other, "a string");
                None
            }
        }
    }

    fn boolean(&mut self, field: &'static str) -> Option<bool> {
        match self.take(field)? {
            Value::Bool(value) => Some(value),
            other => {
                self.wrong_type(field, &other, "true or false");
                None
            }
        }
    }

    fn whole_number(&mut self, field: &'static str) -> Option<u32> {
        let value = self.take(field)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.wrong_type(field, &value, "a whole number of seconds, not negative");
        }
        number
    }

    // For every enum the same code, which is there once if it is not inlined.
    #[inline(never)]
    fn named<T: Copy>(&mut self, field: &'static str, names: &[(&'static str, T)]) -> Option<T> {
        let text = self.string(field)?;
        self.choose(field, &text, names)
    }

    fn choose<T: Copy>(&mut self, field: &str, text: &str, names: &[(&str, T)]) -> Option<T> {
        let found = names.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            let mend = choose_from(text, &names);
            self.problem(field, &format!("\"{text}\" is not known"), &mend);
        }
        found.map(|(_, value)| *value)
    }

    /// `"…"`, or `{"ref": "…"}`.
    fn secret(&mut self, field: &'static str) -> Option<Secret> {
        match self.take(field)? {
            Value::String(text) => Some(Secret::Literal(text.into())),
            Value::Object(object) => self.reference_in(field, object).map(Secret::Reference),
            other => {
                self.wrong_type(field, &other, "a string, or {\"ref\": \"env:NAME\"}");
                None
            }
        }
    }

    /// `{"ref": "…"}` alone: a key is never in a config.
    fn reference(&mut self, field: &'static str) -> Option<String> {
        match self.take(field)? {
            Value::Object(object) => self.reference_in(field, object),
            other => {
                self.wrong_type(field, &other, "a reference: {\"ref\": \"file:PATH\"}");
                None
            }
        }
    }

    fn reference_in(&mut self, field: &str, object: Object) -> Option<String> {
        let reference = match object.get("ref") {
            Some(Value::String(text)) if object.len() == 1 => Some(text.clone()),
            _ => None,
        };
        if reference.is_none() {
            self.problem(
                field,
                "is an object that is not a reference",
                "write {\"ref\": \"env:NAME\"} and nothing else in it",
            );
        }
        reference
    }

    /// One string of words, or an array of them.
    fn words(&mut self, field: &'static str) -> Vec<String> {
        let entries = self.list(field);
        entries
            .iter()
            .flat_map(|entry| entry.split_ascii_whitespace())
            .map(str::to_owned)
            .collect()
    }

    /// One string, or an array of strings.
    fn list(&mut self, field: &'static str) -> Vec<String> {
        match self.take(field) {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(values)) if values.iter().all(Value::is_string) => values
                .into_iter()
                .filter_map(|value| match value {
                    Value::String(text) => Some(text),
                    _ => None,
                })
                .collect(),
            Some(other) => {
                self.wrong_type(field, &other, "a string or an array of strings");
                Vec::new()
            }
        }
    }

    /// An object of strings; numbers and booleans are taken as they are
    /// written.
    fn parameters(&mut self, field: &'static str) -> Vec<Parameter> {
        match self.take(field) {
            None => Vec::new(),
            Some(Value::Object(object)) => {
                let mut parameters = Vec::with_capacity(object.len());
                for (name, value) in object {
                    match value {
                        Value::String(text) => parameters.push((name, text)),
                        Value::Number(_) | Value::Bool(_) => {
                            parameters.push((name, json::text(&value)));
                        }
                        Value::Null => {}
                        other => {
                            self.wrong_type(&format!("{field}.{name}"), &other, "a string");
                        }
                    }
                }
                parameters
            }
            Some(other) => {
                self.wrong_type(field, &other, "an object: {\"name\": \"value\"}");
                Vec::new()
            }
        }
    }

    fn object(&mut self, field: &'static str) -> Option<String> {
        match self.take(field)? {
            object @ Value::Object(_) => Some(json::text(&object)),
            other => {
                self.wrong_type(field, &other, "an object");
                None
            }
        }
    }

    fn prompts(&mut self, field: &'static str) -> Vec<Prompt> {
        let words = self.words(field);
        words
            .iter()
            .filter_map(|word| self.choose(field, word, Prompt::NAMES))
            .collect()
    }

    fn pushed_authorization(&mut self, field: &'static str) -> PushedAuthorization {
        match self.take(field) {
            None => PushedAuthorization::Auto,
            Some(Value::Bool(true)) => PushedAuthorization::Always,
            Some(Value::Bool(false)) => PushedAuthorization::Never,
            Some(Value::String(text)) if text == "auto" => PushedAuthorization::Auto,
            Some(other) => {
                self.wrong_type(field, &other, "\"auto\", true or false");
                PushedAuthorization::Auto
            }
        }
    }

    fn renewal(&mut self, field: &'static str, policy: &mut RenewalPolicy) {
        let fields = match self.take(field) {
            None => return,
            Some(Value::Object(fields)) => fields,
            Some(other) => return self.wrong_type(field, &other, "an object"),
        };
        let mut inner = Reader {
            prefix: "renewal.",
            fields,
            known: Vec::new(),
            problems: Vec::new(),
        };
        each_renewal_field(policy, &mut |field, place| inner.read(field, place));
        self.problems.append(&mut inner.finish());
    }

    /// The problems, those of unknown fields included.
    fn finish(mut self) -> Vec<Problem> {
        let is_nested = !self.prefix.is_empty();
        let of_grants = GRANT_FIELDS.iter().filter(|_| !is_nested);
        let known: Vec<&str> = of_grants
            .map(|(field, _)| *field)
            .chain(self.known.iter().copied())
            .collect();
        let fields = std::mem::take(&mut self.fields);
        for (field, value) in &fields {
            if value.is_null() || known.contains(&field.as_str()) {
                continue;
            }
            let mend = match nearest(field, &known) {
                Some(name) => format!("did you mean {}{name}?", self.prefix),
                None => "remove it".to_owned(),
            };
            self.problem(field, "is not a known field", &mend);
        }
        self.problems
    }
}

fn choose_from(text: &str, names: &[&str]) -> String {
    match nearest(text, names) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("choose one of {}", names.join(", ")),
    }
}

/// The known name that is nearest, where one is near enough to be meant.
pub(crate) fn nearest<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    names
        .iter()
        .map(|name| (edit_distance(&text, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The Levenshtein distance in bytes, computed row by row. A hostile length
/// costs no more than the cut.
fn edit_distance(left: &str, right: &str) -> usize {
    let left = left.as_bytes();
    let left = left.get(..64).unwrap_or(left);
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, left_byte) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right_byte) in right.bytes().enumerate() {
            let substitution = diagonal + usize::from(*left_byte != right_byte);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// Writes a config in its JSON form, without the fields that are at their
/// defaults. Literal secrets are written as they are.
pub fn format(mut config: Config) -> String {
    json::text(&Value::Object(write(&mut config)))
}

pub(super) fn write(config: &mut Config) -> Object {
    let mut out = Writer(Object::new());
    if config.grant != Grant::AuthorizationCode {
        let wire = config.grant.grant_type();
        let known = GRANT_TYPES.iter().find(|(_, urn)| *urn == wire);
        out.named("grant_type", Some(known.map_or(wire, |(name, _)| name)));
    }
    each_field(config, &mut |field, place| out.write(field, place));
    out.0
}

/// Puts fields into an object.
struct Writer(Object);

impl Writer {
    /// Writes what is in a place, unless it is at its default.
    fn write(&mut self, field: &str, place: Place<'_>) {
        match place {
            Place::Text(text) => self.named(field, text.as_deref()),
            Place::Number(number) => self.value(field, number.map(Value::from)),
            Place::Secret(secret) => self.secret(field, secret),
            Place::Reference(reference) => self.reference(field, reference.as_deref()),
            // It came from JSON or a host; what is no JSON is shown as text.
            Place::Object(text) => {
                let value = text
                    .as_deref()
                    .map(|text| json::parse(text.as_bytes()).unwrap_or_else(|_| Value::from(text)));
                self.value(field, value);
            }
            Place::Words(words) => self.words(field, &words.join(" ")),
            Place::List(values) => self.list(field, values),
            Place::Parameters(parameters) => self.parameters(field, parameters),
            Place::Choice(choice) => self.value(field, choice.map(Value::from)),
            Place::On(value) => self.value(field, (!*value).then_some(Value::Bool(false))),
            Place::Off(value) => self.value(field, value.then_some(Value::Bool(true))),
            Place::Authentication(name) => self.named(field, name.map(|name| name.as_str())),
            Place::Encoding(name) => self.named(field, name.map(|name| name.as_str())),
            Place::ResponseMode(name) => self.named(field, name.map(|name| name.as_str())),
            Place::Tls(TlsMode::Verify) => {}
            Place::Tls(mode) => self.named(field, Some(mode.as_str())),
            Place::Prompts(prompts) => {
                let names: Vec<_> = prompts.iter().map(|prompt| prompt.as_str()).collect();
                self.words(field, &names.join(" "));
            }
            Place::Pushed(PushedAuthorization::Auto) => {}
            Place::Pushed(pushed) => {
                let always = *pushed == PushedAuthorization::Always;
                self.value(field, Some(Value::Bool(always)));
            }
            Place::Renewal(policy) => {
                let mut inner = Writer(Object::new());
                each_renewal_field(policy, &mut |field, place| inner.write(field, place));
                self.object(field, inner.0);
            }
        }
    }

    fn value(&mut self, field: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), value);
        }
    }

    fn object(&mut self, field: &str, object: Object) {
        self.value(field, (!object.is_empty()).then_some(Value::Object(object)));
    }

    fn named(&mut self, field: &str, name: Option<&str>) {
        self.value(field, name.map(Value::from));
    }

    fn reference(&mut self, field: &str, reference: Option<&str>) {
        let mut object = Writer(Object::new());
        object.named("ref", reference);
        self.object(field, object.0);
    }

    fn secret(&mut self, field: &str, secret: &Option<Secret>) {
        match secret {
            None => {}
            Some(Secret::Literal(text)) => self.named(field, Some(text.reveal())),
            Some(Secret::Reference(text)) => self.reference(field, Some(text)),
        }
    }

    fn words(&mut self, field: &str, words: &str) {
        self.named(field, Some(words).filter(|words| !words.is_empty()));
    }

    fn list(&mut self, field: &str, values: &[String]) {
        self.value(
            field,
            match values {
                [] => None,
                [one] => Some(Value::from(one.as_str())),
                many => Some(Value::from(many.to_vec())),
            },
        );
    }

    fn parameters(&mut self, field: &str, parameters: &[Parameter]) {
        let mut object = Object::new();
        for (name, value) in parameters {
            object.insert(name.clone(), Value::from(value.as_str()));
        }
        self.object(field, object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of form, without what is missing besides.
    fn problems(text: &str) -> Vec<(String, String)> {
        parse(text)
            .expect_err("it has problems")
            .into_iter()
            .filter(|problem| !problem.message.starts_with("is missing"))
            .map(|problem| (problem.field, problem.mend))
            .collect()
    }

    #[test]
    fn an_empty_object_is_the_default_config() {
        assert_eq!(parse("{}"), Ok(Config::default()));
    }

    #[test]
    fn what_is_formatted_parses_to_the_same() {
        let text = r#"{"actor_token":{"ref":"env:ACTOR"},"audience":["a","b"],"authorization_parameters":{"access_type":"offline"},
            "client_id":"id","client_secret":"p:ss w%rd","dpop":true,"grant_type":"token_exchange","issuer":"https://as.example",
            "max_age":60,"offline_access":false,"par":true,"pkce":false,"prompt":"login consent",
            "renewal":{"early_seconds":30},"scope":"openid email","signing_key":{"ref":"file:key.pem"},
            "subject_token":"t","subject_token_type":"urn:x","timeout":5,"tls":"trust",
            "token_endpoint":"https://as.example/token","token_endpoint_auth_method":"private_key_jwt"}"#;
        let config = parse(text).expect("it is well-formed");
        assert_eq!(parse(&format(config.clone())), Ok(config));
    }

    #[test]
    fn defaults_are_left_out() {
        assert_eq!(format(Config::default()), "{}");
    }

    #[test]
    fn an_unknown_field_names_the_nearest_known_one() {
        assert_eq!(
            problems(r#"{"clientid": "x"}"#),
            [("clientid".into(), "did you mean client_id?".into())]
        );
        assert_eq!(
            problems(r#"{"renewal": {"early_second": 1}}"#),
            [(
                "renewal.early_second".into(),
                "did you mean renewal.early_seconds?".into()
            )]
        );
        assert_eq!(
            problems(r#"{"zzzzzzzzzzzz": 1}"#),
            [("zzzzzzzzzzzz".into(), "remove it".into())]
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let found = problems(
            r#"{"client_id": 7, "pkce": "yes", "timeout": -1, "scope": {}, "tls": "of", "prompt": "logon", "nonsense": 1}"#,
        );
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "client_id",
                "scope",
                "pkce",
                "prompt",
                "tls",
                "timeout",
                "nonsense"
            ]
        );
    }

    #[test]
    fn what_is_missing_is_told_with_what_is_malformed() {
        let problems = parse(r#"{"client_id": 7}"#).expect_err("problems");
        let fields: Vec<_> = problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(
            fields,
            ["client_id", "token_endpoint", "authorization_endpoint"]
        );
    }

    #[test]
    fn a_grant_may_be_given_by_its_urn() {
        let config = parse(r#"{"grant_type": "urn:ietf:params:oauth:grant-type:device_code"}"#);
        assert_eq!(config.map(|config| config.grant), Ok(Grant::DeviceCode));
    }

    #[test]
    fn a_field_of_another_grant_is_a_problem() {
        assert_eq!(
            problems(r#"{"grant_type": "client_credentials", "username": "u"}"#),
            [(
                "username".into(),
                "remove it, or set grant_type to password".into()
            )]
        );
    }

    #[test]
    fn a_null_is_as_good_as_absent() {
        let config = parse(
            r#"{"grant_type": "client_credentials", "username": null, "client_id": "id",
                "parameters": {"a": null, "b": "c"}, "renewal": {"early_seconds": null},
                "scope": null, "token_endpoint": null, "nonsense": null, "tls": null}"#,
        );
        let same =
            r#"{"grant_type": "client_credentials", "client_id": "id", "parameters": {"b": "c"}}"#;
        assert_eq!(config, parse(same));
        assert!(config.is_ok());
    }

    #[test]
    fn a_field_of_another_grant_is_told_with_where_it_belongs() {
        let mend = |grant_type: &str| {
            let config = format!(r#"{{"grant_type": "{grant_type}", "assertion": "a"}}"#);
            problems(&config).remove(0)
        };
        let told = |mend: &str| ("assertion".to_owned(), mend.to_owned());
        assert_eq!(
            mend("password"),
            told("remove it, or set grant_type to jwt_bearer")
        );
        assert_eq!(
            mend("urn:ietf:params:oauth:grant-type:saml2-bearer"),
            told("put it into token_parameters")
        );
    }

    #[test]
    fn the_implicit_grant_is_not_offered() {
        assert_eq!(
            problems(r#"{"grant_type": "implicit"}"#),
            [("grant_type".into(), "use authorization_code".into())]
        );
    }

    #[test]
    fn a_key_is_never_in_a_config() {
        assert_eq!(
            problems(r#"{"signing_key": "-----BEGIN"}"#)[0].0,
            "signing_key"
        );
    }

    #[test]
    fn what_is_no_json_object_is_one_problem() {
        for text in ["", "{", "[]", "7", "null", "{\"a\":"] {
            assert_eq!(
                parse(text).map_err(|problems| problems.len()),
                Err(1),
                "{text}"
            );
        }
    }
}
