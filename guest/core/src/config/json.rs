//! The JSON form of a config: one flat object whose fields bear the registered
//! names.
//!
//! It is read by hand and not derived, so that every problem is told at once,
//! each with its field and a mend.

use super::{
    BasicEncoding, ClientAuthentication, Config, EndpointUrls, Grant, Parameter, Problem, Prompt,
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
pub(super) const SECRETS: &[&str] = &[
    "client_secret",
    "password",
    "assertion",
    "subject_token",
    "actor_token",
    "refresh_token",
];

/// The names of the grants in a config, beside their URNs.
const GRANT_TYPES: &[(&str, &str)] = &[
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
    let config = read(&mut reader);
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

fn read(reader: &mut Reader) -> Config {
    let default = Config::default();
    let grant = read_grant(reader);
    let mut endpoints = EndpointUrls::default();
    for (name, url) in endpoints.iter_mut() {
        *url = reader.string(name);
    }
    Config {
        provider: reader.string("provider"),
        parameters: reader.parameters("parameters"),
        client_id: reader.string("client_id"),
        client_secret: reader.secret("client_secret"),
        client_authentication: reader
            .named("token_endpoint_auth_method", ClientAuthentication::NAMES),
        basic_encoding: reader.named("client_secret_basic_encoding", BasicEncoding::NAMES),
        signing_key: reader.reference("signing_key"),
        client_certificate: reader.reference("client_certificate"),
        client_certificate_key: reader.reference("client_certificate_key"),
        grant,
        scope: reader.words("scope"),
        resource: reader.list("resource"),
        audience: reader.list("audience"),
        issuer: reader.string("issuer"),
        endpoints,
        redirect_uri: reader.string("redirect_uri"),
        response_mode: reader.named("response_mode", ResponseMode::NAMES),
        pkce: reader.boolean("pkce").unwrap_or(default.pkce),
        prompt: reader.prompts(),
        max_age: reader.whole_number("max_age"),
        offline_access: reader.boolean("offline_access"),
        authorization_parameters: reader.parameters("authorization_parameters"),
        token_parameters: reader.parameters("token_parameters"),
        token_headers: reader.parameters("token_headers"),
        dpop: reader.boolean("dpop").unwrap_or(default.dpop),
        pushed_authorization: reader.pushed_authorization(),
        request_object: reader
            .boolean("request_object")
            .unwrap_or(default.request_object),
        tls: reader.named("tls", TlsMode::NAMES).unwrap_or(default.tls),
        timeout: reader.whole_number("timeout"),
        ignore_cookie_policy: reader
            .boolean("ignore_cookie_policy")
            .unwrap_or(default.ignore_cookie_policy),
        renewal: reader.renewal(),
        dialect: default.dialect,
    }
}

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
        if *owner != name && reader.fields.contains_key(*field) {
            reader.take(field);
            reader.problem(
                field,
                &format!("does not belong to the grant {name}"),
                &format!("remove it, or set grant_type to {owner}"),
            );
        }
    }
    match name {
        "authorization_code" => Grant::AuthorizationCode,
        "client_credentials" => Grant::ClientCredentials,
        "password" => Grant::Password {
            username: reader.string("username"),
            password: reader.secret("password"),
        },
        "device_code" => Grant::DeviceCode,
        "jwt_bearer" => Grant::JwtBearer {
            assertion: reader.secret("assertion"),
            issuer: reader.string("assertion_issuer"),
            subject: reader.string("assertion_subject"),
            audience: reader.string("assertion_audience"),
            claims: reader.object("assertion_claims"),
        },
        "token_exchange" => Grant::TokenExchange {
            subject_token: reader.secret("subject_token"),
            subject_token_type: reader.string("subject_token_type"),
            actor_token: reader.secret("actor_token"),
            actor_token_type: reader.string("actor_token_type"),
            requested_token_type: reader.string("requested_token_type"),
        },
        "refresh_token" => Grant::RefreshToken {
            refresh_token: reader.secret("refresh_token"),
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
            let names = GRANT_TYPES.iter().map(|(name, _)| *name);
            let mend = choose_from(other, names);
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

    fn named<T: Copy>(&mut self, field: &'static str, names: &[(&'static str, T)]) -> Option<T> {
        let text = self.string(field)?;
        self.choose(field, &text, names)
    }

    fn choose<T: Copy>(&mut self, field: &str, text: &str, names: &[(&str, T)]) -> Option<T> {
        let found = names.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let mend = choose_from(text, names.iter().map(|(name, _)| *name));
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

    fn prompts(&mut self) -> Vec<Prompt> {
        let words = self.words("prompt");
        words
            .iter()
            .filter_map(|word| self.choose("prompt", word, Prompt::NAMES))
            .collect()
    }

    fn pushed_authorization(&mut self) -> PushedAuthorization {
        match self.take("par") {
            None => PushedAuthorization::Auto,
            Some(Value::Bool(true)) => PushedAuthorization::Always,
            Some(Value::Bool(false)) => PushedAuthorization::Never,
            Some(Value::String(text)) if text == "auto" => PushedAuthorization::Auto,
            Some(other) => {
                self.wrong_type("par", &other, "\"auto\", true or false");
                PushedAuthorization::Auto
            }
        }
    }

    fn renewal(&mut self) -> RenewalPolicy {
        let fields = match self.take("renewal") {
            None => return RenewalPolicy::default(),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                self.wrong_type("renewal", &other, "an object");
                return RenewalPolicy::default();
            }
        };
        let mut inner = Reader {
            prefix: "renewal.",
            fields,
            known: Vec::new(),
            problems: Vec::new(),
        };
        let policy = RenewalPolicy {
            early_seconds: inner.whole_number("early_seconds"),
            max_attempts: inner.whole_number("max_attempts"),
            first_retry_seconds: inner.whole_number("first_retry_seconds"),
            max_retry_seconds: inner.whole_number("max_retry_seconds"),
            default_lifetime_seconds: inner.whole_number("default_lifetime_seconds"),
        };
        self.problems.append(&mut inner.finish());
        policy
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
        for field in fields
            .keys()
            .filter(|field| !known.contains(&field.as_str()))
        {
            let mend = match nearest(field, known.iter().copied()) {
                Some(name) => format!("did you mean {}{name}?", self.prefix),
                None => "remove it".to_owned(),
            };
            self.problem(field, "is not a known field", &mend);
        }
        self.problems
    }
}

fn choose_from<'a>(text: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(text, names.clone()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("choose one of {}", names.collect::<Vec<_>>().join(", ")),
    }
}

/// The known name that is nearest, where one is near enough to be meant.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    names
        .map(|name| (edit_distance(&text, name), name))
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
pub fn format(config: &Config) -> String {
    let default = Config::default();
    let mut out = Writer(Object::new());
    out.string("provider", &config.provider);
    out.parameters("parameters", &config.parameters);
    out.string("client_id", &config.client_id);
    out.secret("client_secret", &config.client_secret);
    out.named(
        "token_endpoint_auth_method",
        config
            .client_authentication
            .map(ClientAuthentication::as_str),
    );
    out.named(
        "client_secret_basic_encoding",
        config.basic_encoding.map(BasicEncoding::as_str),
    );
    out.reference("signing_key", &config.signing_key);
    out.reference("client_certificate", &config.client_certificate);
    out.reference("client_certificate_key", &config.client_certificate_key);
    write_grant(&mut out, &config.grant);
    out.words("scope", config.scope.iter().map(String::as_str));
    out.list("resource", &config.resource);
    out.list("audience", &config.audience);
    out.string("issuer", &config.issuer);
    for (name, url) in config.endpoints.iter() {
        out.string(name, url);
    }
    out.string("redirect_uri", &config.redirect_uri);
    out.named(
        "response_mode",
        config.response_mode.map(ResponseMode::as_str),
    );
    out.unless_default("pkce", config.pkce, default.pkce);
    out.words("prompt", config.prompt.iter().map(|prompt| prompt.as_str()));
    out.number("max_age", config.max_age);
    out.value("offline_access", config.offline_access.map(Value::from));
    out.parameters("authorization_parameters", &config.authorization_parameters);
    out.parameters("token_parameters", &config.token_parameters);
    out.parameters("token_headers", &config.token_headers);
    out.unless_default("dpop", config.dpop, default.dpop);
    out.value(
        "par",
        match config.pushed_authorization {
            PushedAuthorization::Auto => None,
            PushedAuthorization::Always => Some(Value::from(true)),
            PushedAuthorization::Never => Some(Value::from(false)),
        },
    );
    out.unless_default(
        "request_object",
        config.request_object,
        default.request_object,
    );
    out.named(
        "tls",
        (config.tls != default.tls).then(|| config.tls.as_str()),
    );
    out.number("timeout", config.timeout);
    out.unless_default(
        "ignore_cookie_policy",
        config.ignore_cookie_policy,
        default.ignore_cookie_policy,
    );
    let mut renewal = Writer(Object::new());
    renewal.number("early_seconds", config.renewal.early_seconds);
    renewal.number("max_attempts", config.renewal.max_attempts);
    renewal.number("first_retry_seconds", config.renewal.first_retry_seconds);
    renewal.number("max_retry_seconds", config.renewal.max_retry_seconds);
    renewal.number(
        "default_lifetime_seconds",
        config.renewal.default_lifetime_seconds,
    );
    if !renewal.0.is_empty() {
        out.value("renewal", Some(Value::Object(renewal.0)));
    }
    json::text(&Value::Object(out.0))
}

fn write_grant(out: &mut Writer, grant: &Grant) {
    let wire = grant.grant_type();
    let name = GRANT_TYPES
        .iter()
        .find(|(_, urn)| *urn == wire)
        .map_or(wire, |(name, _)| name);
    if *grant != Grant::AuthorizationCode {
        out.named("grant_type", Some(name));
    }
    match grant {
        Grant::AuthorizationCode
        | Grant::ClientCredentials
        | Grant::DeviceCode
        | Grant::Extension(_) => {}
        Grant::Password { username, password } => {
            out.string("username", username);
            out.secret("password", password);
        }
        Grant::JwtBearer {
            assertion,
            issuer,
            subject,
            audience,
            claims,
        } => {
            out.secret("assertion", assertion);
            out.string("assertion_issuer", issuer);
            out.string("assertion_subject", subject);
            out.string("assertion_audience", audience);
            // It came from JSON or a host; what is no JSON is shown as text.
            out.value(
                "assertion_claims",
                claims.as_ref().map(|text| {
                    json::parse(text.as_bytes()).unwrap_or_else(|_| Value::from(text.as_str()))
                }),
            );
        }
        Grant::TokenExchange {
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            requested_token_type,
        } => {
            out.secret("subject_token", subject_token);
            out.string("subject_token_type", subject_token_type);
            out.secret("actor_token", actor_token);
            out.string("actor_token_type", actor_token_type);
            out.string("requested_token_type", requested_token_type);
        }
        Grant::RefreshToken { refresh_token } => out.secret("refresh_token", refresh_token),
    }
}

/// Puts fields into an object.
struct Writer(Object);

impl Writer {
    fn value(&mut self, field: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), value);
        }
    }

    fn string(&mut self, field: &str, text: &Option<String>) {
        self.value(field, text.as_deref().map(Value::from));
    }

    fn named(&mut self, field: &str, name: Option<&str>) {
        self.value(field, name.map(Value::from));
    }

    fn number(&mut self, field: &str, number: Option<u32>) {
        self.value(field, number.map(Value::from));
    }

    fn unless_default(&mut self, field: &str, value: bool, default: bool) {
        self.value(field, (value != default).then(|| Value::from(value)));
    }

    fn reference(&mut self, field: &str, reference: &Option<String>) {
        if let Some(reference) = reference {
            let mut object = Object::new();
            object.insert("ref".to_owned(), Value::from(reference.as_str()));
            self.value(field, Some(Value::Object(object)));
        }
    }

    fn secret(&mut self, field: &str, secret: &Option<Secret>) {
        match secret {
            None => {}
            Some(Secret::Literal(text)) => self.named(field, Some(text.reveal())),
            Some(Secret::Reference(text)) => self.reference(field, &Some(text.clone())),
        }
    }

    fn words<'a>(&mut self, field: &str, words: impl Iterator<Item = &'a str>) {
        let text = words.collect::<Vec<_>>().join(" ");
        self.value(field, (!text.is_empty()).then(|| Value::from(text)));
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
        self.value(field, (!object.is_empty()).then_some(Value::Object(object)));
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
        assert_eq!(parse(&format(&config)), Ok(config));
    }

    #[test]
    fn defaults_are_left_out() {
        assert_eq!(format(&Config::default()), "{}");
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
