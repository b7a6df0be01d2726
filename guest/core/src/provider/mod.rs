//! The provider catalogue: what is known of a provider, and what it makes of a
//! config.
//!
//! Its source is `guest/providers/catalogue/`; it is checked and packed when this
//! crate is built (see `tokenwell_providers`). Here it is only read.

use crate::config::{self, ClientAuthentication, Config, Parameter, Problem, ResponseMode};
use crate::dialect::{Dialect, Field};
use crate::endpoint::Endpoint;
use tokenwell_providers::packing::{Packed, Text};
use tokenwell_providers::pattern;

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
    let (name, value) = match sentence.contains('$') {
        true => value.split_once('=').unwrap_or_default(),
        false => ("", value),
    };
    let sentence = match value.parse() {
        Ok(seconds) => sentence.replace("% seconds", &duration(seconds)),
        Err(_) => sentence.to_owned(),
    };
    Some(sentence.replace('$', name).replace('%', value))
}

/// The name of the config's field that a field sets, a tab, and what it says.
fn description(field: Field) -> Option<String> {
    let descriptions = Dialect(texts().next()?.unpack());
    descriptions.get(field).map(str::to_owned)
}

/// A time in the largest unit that it is a multiple of.
fn duration(seconds: u64) -> String {
    for (unit, name) in [(86_400, "days"), (3600, "hours"), (60, "minutes")] {
        if seconds > unit && seconds.is_multiple_of(unit) {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} seconds")
}

impl Provider {
    fn read(text: &str) -> Option<Self> {
        let (id, entry) = text.split_once('\n')?;
        Some(Self {
            id: id.to_owned(),
            entry: Dialect(entry.to_owned()),
        })
    }

    /// The name people know it by.
    pub fn name(&self) -> &str {
        self.entry.get(Field::NAME).unwrap_or(&self.id)
    }

    /// What it needs to be told.
    pub fn parameters(&self) -> impl Iterator<Item = ProviderParameter<'_>> {
        self.entry.all(Field::PARAMETERS).filter_map(|line| {
            let mut parts = line.splitn(4, '\t');
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
        for (field, value) in self.entry.lines() {
            let description = description(field).unwrap_or_default();
            let Some((name, _)) = description
                .split_once('\t')
                .filter(|(name, _)| !name.is_empty())
            else {
                continue;
            };
            let is_map = matches!(
                field,
                Field::AUTHORIZATION_PARAMETERS | Field::TOKEN_PARAMETERS | Field::TOKEN_HEADERS
            );
            defaults.push(match value.split_once('=').filter(|_| is_map) {
                Some((key, value)) => (format!("{name}.{key}"), value.to_owned()),
                None => (name.to_owned(), value.to_owned()),
            });
        }
        defaults
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
    fn filled(&self, given: &[Parameter]) -> Result<Dialect, Vec<Problem>> {
        let mut problems = Vec::new();
        let field = |name: &str| format!("parameters.{name}");
        for (name, _) in given {
            if self.parameters().all(|known| known.name != name) {
                let names: Vec<_> = self.parameters().map(|known| known.name).collect();
                let mend = match names.is_empty() {
                    true => "remove it".to_owned(),
                    false => format!("its parameters are: {}", names.join(", ")),
                };
                let message = format!("is no parameter of {}", self.id);
                problems.push(Problem::error(&field(name), &message, &mend));
            }
        }
        let mut entry = self.entry.0.clone();
        for parameter in self.parameters() {
            let mut values = given.iter().filter(|(name, _)| name == parameter.name);
            let value = values.next().map(|(_, value)| value.as_str());
            let braced = format!("{{{}}}", parameter.name);
            match value.or(parameter.default) {
                Some(value) if pattern::matches(parameter.pattern, value) => {
                    entry = entry.replace(&braced, value);
                }
                Some(_) => problems.push(Problem::error(
                    &field(parameter.name),
                    &format!("does not match {}", parameter.pattern),
                    parameter.help,
                )),
                None if parameter.required => problems.push(Problem::error(
                    &field(parameter.name),
                    "is missing",
                    parameter.help,
                )),
                // What needs it is not there.
                None => {
                    let lines = entry.lines().filter(|line| !line.contains(&braced));
                    entry = lines.flat_map(|line| [line, "\n"]).collect();
                }
            }
        }
        let entry = Dialect(entry);
        for endpoint in Field::ENDPOINTS.iter().chain(&[
            Field::ISSUER,
            Field::REFRESH_ENDPOINT,
            Field::EXCHANGE_ENDPOINT,
        ]) {
            if let Some(what) = entry
                .get(*endpoint)
                .and_then(|url| Endpoint::parse(url).err())
                && problems.is_empty()
            {
                let message = format!("make a URL that {what}");
                problems.push(Problem::error("parameters", &message, "correct them"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let is_for_people = |field| {
            matches!(
                field,
                Field::PARAMETERS
                    | Field::PECULIARITIES
                    | Field::REGISTRATION_PAGE
                    | Field::DOCUMENTATION_PAGE
            )
        };
        let lines = entry.0.lines();
        let kept = lines.filter(|line| !line.bytes().next().map(Field).is_some_and(is_for_people));
        Ok(Dialect(kept.flat_map(|line| [line, "\n"]).collect()))
    }
}

/// A config with what its provider declares: the dialect, and the defaults of the
/// fields that the config leaves open. What the config says goes before.
///
/// # Errors
/// What is wrong with `provider` and `parameters`.
pub fn complete(config: &Config) -> Result<Config, Vec<Problem>> {
    let mut config = config.clone();
    let Some(id) = &config.provider else {
        return Ok(config);
    };
    let Some(provider) = find(id) else {
        return Err(vec![Problem::error(
            "provider",
            &format!("\"{id}\" is not in the catalogue"),
            &unknown_provider(id),
        )]);
    };
    let dialect = provider.filled(&config.parameters)?;
    let method = dialect.get(Field::TOKEN_ENDPOINT_AUTH_METHOD);
    let method = method.and_then(|name| config::named(ClientAuthentication::NAMES, name));
    // The way with a secret is for who has one, the way without for who has none.
    let method = method.filter(|method| method.needs_secret() == config.client_secret.is_some());
    config.client_authentication = config.client_authentication.or(method);
    if dialect.has(Field::CLIENT_SECRET_BASIC_ENCODING) {
        let raw = config::BasicEncoding::Raw;
        config.basic_encoding = config.basic_encoding.or(Some(raw));
    }
    let mode = dialect.get(Field::RESPONSE_MODE);
    let mode = mode.and_then(|name| config::named(ResponseMode::NAMES, name));
    config.response_mode = config.response_mode.or(mode);
    config.pkce &= dialect.get(Field::PKCE) != Some("unsupported");
    for (parameters, field) in [
        (
            &mut config.authorization_parameters,
            Field::AUTHORIZATION_PARAMETERS,
        ),
        (&mut config.token_parameters, Field::TOKEN_PARAMETERS),
        (&mut config.token_headers, Field::TOKEN_HEADERS),
    ] {
        for (name, value) in dialect.pairs(field) {
            // That has a field of its own.
            let is_named = name == "audience" && !config.audience.is_empty();
            if !is_named
                && !parameters
                    .iter()
                    .any(|(given, _)| given.eq_ignore_ascii_case(name))
            {
                parameters.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    let renewal = &mut config.renewal;
    renewal.early_seconds = renewal
        .early_seconds
        .or_else(|| dialect.number(Field::EARLY_SECONDS));
    renewal.default_lifetime_seconds = renewal
        .default_lifetime_seconds
        .or_else(|| dialect.number(Field::DEFAULT_LIFETIME_SECONDS));
    config.dialect = dialect;
    Ok(config)
}

/// What to do about an identifier that is not there: the one that was meant, if
/// it begins or ends like it.
fn unknown_provider(id: &str) -> String {
    let ids: Vec<_> = all().map(|provider| provider.id).collect();
    match config::nearest(id, ids.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "choose one of the catalogue, or remove it and name the issuer or the endpoints"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
