//! The provider catalogue: what is known of a provider, and what it makes of a
//! config.
//!
//! Its source is `guest/providers/catalogue/`; it is checked and packed when this
//! crate is built (see `tokenwell_providers`). Here it is only read.

use crate::config::{
    self, BasicEncoding, ClientAuthentication, Config, Parameter, Problem, RedirectUris,
    ResponseMode,
};
use crate::dialect::{Dialect, Field, Line};
use crate::endpoint::Endpoint;
use tokenwell_providers::packing::{Packed, Text};
use tokenwell_providers::pattern;

/// What stands for the config's client identifier in a revocation endpoint.
const CLIENT_ID: &str = "{client_id}";

/// The packed catalogue.
static CATALOGUE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/catalogue.bin"));

/// A provider of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// The identifier that a config names.
    pub id: String,
    /// What is declared of it, with its parameters in braces.
    pub entry: Dialect,
}

/// A value that a provider needs beside the client's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProviderParameter<'a> {
    /// The name, as in the config's `parameters`.
    pub name: &'a str,
    /// What it is and where to find it.
    pub help: &'a str,
    /// The regular expression that a value must match in full.
    pub pattern: &'a str,
    /// Whether there is no doing without it.
    pub required: bool,
    /// The value taken when none is given.
    pub default: Option<&'a str>,
}

/// The texts of the catalogue, the first of which tells of the fields.
fn texts() -> impl Iterator<Item = Text<'static>> {
    Packed::new(CATALOGUE).texts()
}

/// Every provider, in the order of the identifiers.
pub fn all() -> impl Iterator<Item = Provider> {
    texts()
        .skip(1)
        .filter_map(|text| Provider::read(&text.unpack()))
}

/// The provider of an identifier.
pub fn find(id: &str) -> Option<Provider> {
    // The identifier is the first line, whole.
    let line = format!("{id}\n");
    let mut texts = texts().skip(1);
    let text = texts.find(|text| text.starts_with(&line))?;
    Provider::read(&text.unpack()).filter(|provider| provider.id == id)
}

/// What a field says of a provider that has it, in one sentence.
pub(crate) fn sentence(field: Field, value: &str) -> Option<String> {
    let description = description(field)?;
    let (_, sentence) = description.split_once('\t')?;
    if sentence.is_empty() {
        return None;
    }
    let (mut name, mut told_value) = ("", value);
    if sentence.contains('$') {
        (name, told_value) = value.split_once('=').unwrap_or_default();
    }
    let mut told = String::new();
    for character in sentence.chars() {
        match character {
            '$' => told.push_str(name),
            '%' => match told_value {
                // What is known only when it is needed.
                "{redirect_host}" => told.push_str("the host of the redirect URI"),
                "{token_endpoint}" => told.push_str("the token endpoint"),
                // There are several places in `response_fields`.
                known => told.push_str(&known.replace('|', " or ")),
            },
            '&' => told.push_str(&duration(value.parse().unwrap_or(0))),
            character => told.push(character),
        }
    }
    Some(told)
}

/// The name of the config's field that a field sets, a tab, and what it says.
fn description(field: Field) -> Option<String> {
    let descriptions = Dialect::new(texts().next()?.unpack());
    descriptions.get(field).map(str::to_owned)
}

/// The field of a config that a field sets, where it sets one.
fn setting(field: Field) -> Option<String> {
    let description = description(field)?;
    let (name, _) = description.split_once('\t')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// A time in the largest unit that it is a multiple of.
fn duration(seconds: u32) -> String {
    for (unit, name) in [(86_400, " days"), (3600, " hours"), (60, " minutes")] {
        if seconds > unit && seconds.is_multiple_of(unit) {
            return (seconds / unit).to_string() + name;
        }
    }
    seconds.to_string() + " seconds"
}

impl Provider {
    fn read(text: &str) -> Option<Self> {
        let (id, entry) = text.split_once('\n')?;
        Some(Self {
            id: id.to_owned(),
            entry: Dialect::new(entry.to_owned()),
        })
    }

    /// The name people know it by.
    pub fn name(&self) -> &str {
        self.entry.get(Field::NAME).unwrap_or(&self.id)
    }

    /// What it needs to be told.
    pub fn parameters(&self) -> impl Iterator<Item = ProviderParameter<'_>> {
        self.entry.all(Field::PARAMETERS).filter_map(|line| {
            let mut parts = line.value.split('\t');
            let (name, pattern, need) = (parts.next()?, parts.next()?, parts.next()?);
            let default = need.get(1..).filter(|default| !default.is_empty());
            Some(ProviderParameter {
                name,
                pattern,
                required: need.starts_with('!'),
                default,
                help: parts.next()?,
            })
        })
    }

    /// The fields of a config that it sets, by their names in JSON, with its
    /// parameters in braces.
    pub fn defaults(&self) -> Vec<Parameter> {
        let mut defaults = Vec::new();
        if self.entry.get(Field::PKCE) == Some("unsupported") {
            defaults.push(("pkce".to_owned(), "false".to_owned()));
        }
        for Line { field, value } in self.entry.lines() {
            let Some(name) = setting(field) else {
                continue;
            };
            let is_map = matches!(
                field,
                Field::AUTHORIZATION_PARAMETERS | Field::TOKEN_PARAMETERS | Field::TOKEN_HEADERS
            );
            defaults.push(match value.split_once('=').filter(|_| is_map) {
                Some((key, value)) => (format!("{name}.{key}"), value.to_owned()),
                None => (name, value.to_owned()),
            });
        }
        defaults
    }

    /// Where requests go because of it, by the names in its entry, with its
    /// parameters in braces. The authorization endpoint is not among them, since
    /// the browser goes there.
    pub fn endpoints(&self) -> Vec<Parameter> {
        let mut endpoints = Vec::new();
        for Line { field, value } in self.entry.lines() {
            let name = match field {
                Field::AUTHORIZATION_ENDPOINT => None,
                Field::REFRESH_ENDPOINT => Some("refresh_endpoint".to_owned()),
                Field::EXCHANGE_ENDPOINT => Some("exchange_endpoint".to_owned()),
                Field::CALLBACK_SERVERS => Some("callback_servers".to_owned()),
                field => setting(field).filter(|_| field.is_endpoint()),
            };
            endpoints.extend(name.map(|name| (name, value.to_owned())));
        }
        endpoints
    }

    /// Which redirect URIs it accepts, where that is known.
    pub fn redirect_uris(&self) -> Option<RedirectUris> {
        self.entry.redirect_uris()
    }

    /// The page where a client is registered.
    pub fn registration_page(&self) -> Option<&str> {
        self.entry.get(Field::REGISTRATION_PAGE)
    }

    /// The page that documents its OAuth.
    pub fn documentation_page(&self) -> Option<&str> {
        self.entry.get(Field::DOCUMENTATION_PAGE)
    }

    /// What is peculiar about it, a sentence each.
    pub fn peculiarities(&self) -> Vec<String> {
        self.entry.sentences(Field::NAME, Field::PECULIARITIES)
    }

    /// What is declared, with the values of the parameters in place of their
    /// names, and without what is for people.
    ///
    /// # Errors
    /// Everything that is wrong with the values: each is held against its
    /// pattern, so that a tenant cannot bring a path along or choose a host.
    fn filled(&self, config: &Config) -> Result<Dialect, Vec<Problem>> {
        let given = &config.parameters;
        let mut problems = Vec::new();
        let mut problem = |name: &str, message: &str, mend: &str| {
            let field = ["parameters.", name].concat();
            problems.push(Problem::error(&field, message, mend));
        };
        for (name, _) in given {
            if self.parameters().all(|known| known.name != name) {
                let mut mend = "remove it; the parameters are:".to_owned();
                for known in self.parameters() {
                    mend.push(' ');
                    mend.push_str(known.name);
                }
                problem(name, "is no parameter of the provider", &mend);
            }
        }
        let mut entry = self.entry.text.clone();
        for parameter in self.parameters() {
            let value = given.iter().find(|(name, _)| name == parameter.name);
            let value = value.map_or(parameter.default, |(_, value)| Some(value));
            let braced = ["{", parameter.name, "}"].concat();
            match value {
                Some(value) if pattern::matches(parameter.pattern, value) => {
                    entry = entry.replace(braced.as_str(), value);
                }
                Some(_) => {
                    let message = ["does not match ", parameter.pattern].concat();
                    problem(parameter.name, &message, parameter.help);
                }
                None if parameter.required => problem(parameter.name, "is missing", parameter.help),
                // What needs it is not there: a line with this is left out below.
                None => entry = entry.replace(braced.as_str(), "\u{1}"),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut entry = Dialect::new(entry);
        if let Some(url) = entry.get(Field::REVOCATION_ENDPOINT)
            && url.contains(CLIENT_ID)
        {
            let id = config.client_id.as_deref().unwrap_or_default();
            // A segment of the path, and nothing that goes beyond it.
            let is_segment = pattern::matches("[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", id);
            let filled = url.replace(CLIENT_ID, if is_segment { id } else { "\u{1}" });
            entry.text = entry.text.replace(url, &filled);
        }
        let dialect = Dialect::new(lines_of(&entry.text, &|line| {
            let field = Field(*line.as_bytes().first().unwrap_or(&0));
            let is_whole = !line.bytes().any(|byte| byte == 1);
            let is_for_people = matches!(
                field,
                Field::PARAMETERS
                    | Field::PECULIARITIES
                    | Field::REGISTRATION_PAGE
                    | Field::DOCUMENTATION_PAGE
            );
            is_whole && !is_for_people
        }));
        // A host may match its pattern and be none all the same.
        for line in dialect.lines() {
            if line.field.is_endpoint()
                && let Err(what) = Endpoint::parse(line.value)
            {
                let message = ["make a URL that ", what].concat();
                return Err(vec![Problem::error("parameters", &message, "correct them")]);
            }
        }
        Ok(dialect)
    }
}

/// The lines of a text that are wanted.
#[inline(never)]
fn lines_of(text: &str, is_wanted: &dyn Fn(&str) -> bool) -> String {
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        if is_wanted(line) {
            kept.push_str(line);
        }
    }
    kept
}

/// What the provider of a config declares; nothing where there is none.
///
/// # Errors
/// What is wrong with `provider` and `parameters`.
pub fn dialect(config: &Config) -> Result<Dialect, Vec<Problem>> {
    let Some(id) = &config.provider else {
        return Ok(Dialect::default());
    };
    match find(id) {
        Some(provider) => provider.filled(config),
        None => Err(vec![Problem::error(
            "provider",
            &["\"", id, "\" is not in the catalogue"].concat(),
            &unknown_provider(id),
        )]),
    }
}

/// Completes a config with what its provider declares: the dialect, and the
/// defaults of the fields that the config leaves open. What the config says goes
/// before.
pub fn complete(config: &mut Config, dialect: Dialect) {
    let has_secret = config.client_secret.is_some() || dialect.makes_secret(config);
    let mut filled = Vec::new();
    let method = dialect.get(Field::TOKEN_ENDPOINT_AUTH_METHOD);
    let method = method.and_then(|name| config::named(ClientAuthentication::NAMES, name));
    // The way with a secret is for who has one, the way without for who has none.
    let method = method.filter(|method| method.needs_secret() == has_secret);
    if config.client_authentication.is_none() && method.is_some() {
        config.client_authentication = method;
        filled.push("token_endpoint_auth_method");
    }
    if config.basic_encoding.is_none() && dialect.has(Field::CLIENT_SECRET_BASIC_ENCODING) {
        config.basic_encoding = Some(BasicEncoding::Raw);
        filled.push("client_secret_basic_encoding");
    }
    let mode = dialect.get(Field::RESPONSE_MODE);
    let mode = mode.and_then(|name| config::named(ResponseMode::NAMES, name));
    if config.response_mode.is_none() && mode.is_some() {
        config.response_mode = mode;
        filled.push("response_mode");
    }
    let refuses_pkce = match dialect.get(Field::PKCE) {
        Some("unsupported") => true,
        Some("unsupported with a secret") => has_secret,
        _ => false,
    };
    if refuses_pkce && config.pkce {
        config.pkce = false;
        filled.push("pkce");
    }
    let has_audience = !config.audience.is_empty();
    for (name, parameters, field) in [
        (
            "authorization_parameters",
            &mut config.authorization_parameters,
            Field::AUTHORIZATION_PARAMETERS,
        ),
        (
            "token_parameters",
            &mut config.token_parameters,
            Field::TOKEN_PARAMETERS,
        ),
        (
            "token_headers",
            &mut config.token_headers,
            Field::TOKEN_HEADERS,
        ),
    ] {
        for line in dialect.all(field) {
            let (key, value) = line.pair();
            let is_given = |(given, _): &Parameter| given.eq_ignore_ascii_case(key);
            // The audience has a field of its own.
            if parameters.iter().any(is_given) || key == "audience" && has_audience {
                continue;
            }
            parameters.push((key.to_owned(), value.to_owned()));
            filled.push(name);
        }
    }
    let renewal = &mut config.renewal;
    for (number, field) in [
        (&mut renewal.early_seconds, Field::EARLY_SECONDS),
        (
            &mut renewal.default_lifetime_seconds,
            Field::DEFAULT_LIFETIME_SECONDS,
        ),
    ] {
        if number.is_none() && dialect.has(field) {
            *number = dialect.number(field);
            filled.push("renewal");
        }
    }
    config.dialect = Dialect { filled, ..dialect };
}

/// What to do about an identifier that is not there: the one that was meant, if
/// it begins or ends like it.
fn unknown_provider(id: &str) -> String {
    let ids: Vec<_> = all().map(|provider| provider.id).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    match config::nearest(id, &ids) {
        Some(near) => format!("did you mean {near}?"),
        None => "choose one of the catalogue, or remove it and name the issuer or the endpoints"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
