//! How a server departs from the standard, as its provider's entry of the
//! catalogue declares it. A connection without a provider speaks the standard,
//! which is the default, and reads tolerantly all the same.
//!
//! Nothing here knows any one provider: what cannot be declared is a gap in the
//! format, which `guest/providers/README.md` describes.

use crate::client_authentication::{Client, basic};
use crate::config::{BasicEncoding, Config};
use crate::endpoint::Endpoint;
use crate::http::{Method, Request};
use crate::json::{self, Object};
use crate::provider;
use crate::secret::SecretString;
use serde_json::Value;

/// A field of a catalogue entry, by the character that its lines begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub(crate) u8);

include!(concat!(env!("OUT_DIR"), "/fields.rs"));

impl Field {
    /// The endpoints, in the order of
    /// [`EndpointUrls::iter`](crate::config::EndpointUrls::iter).
    pub(crate) const ENDPOINTS: [Self; 8] = [
        Self::AUTHORIZATION_ENDPOINT,
        Self::TOKEN_ENDPOINT,
        Self::REVOCATION_ENDPOINT,
        Self::INTROSPECTION_ENDPOINT,
        Self::USERINFO_ENDPOINT,
        Self::DEVICE_AUTHORIZATION_ENDPOINT,
        Self::PUSHED_AUTHORIZATION_REQUEST_ENDPOINT,
        Self::JWKS_URI,
    ];
}

/// The declared facts of a server: lines, each the character of a field and a
/// value. What is not declared is as the standard has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dialect(pub(crate) String);

impl Dialect {
    /// Whether nothing is declared: there is no provider.
    pub fn is_standard(&self) -> bool {
        self.0.is_empty()
    }

    /// Each field with its value, in order.
    pub fn lines(&self) -> impl Iterator<Item = (Field, &str)> {
        let lines = self.0.lines();
        lines.filter_map(|line| Some((Field(*line.as_bytes().first()?), line.get(1..)?)))
    }

    /// Every value of a field.
    pub fn all(&self, field: Field) -> impl Iterator<Item = &str> {
        let lines = self.lines();
        lines.filter_map(move |(found, value)| (found == field).then_some(value))
    }

    /// The value of a field.
    pub fn get(&self, field: Field) -> Option<&str> {
        self.all(field).next()
    }

    /// Whether a field is declared.
    pub fn has(&self, field: Field) -> bool {
        self.get(field).is_some()
    }

    /// The number that a field holds.
    pub fn number(&self, field: Field) -> Option<u32> {
        self.get(field)?.parse().ok()
    }

    /// The names and values of a field that has them.
    pub fn pairs(&self, field: Field) -> impl Iterator<Item = (&str, &str)> {
        self.all(field).filter_map(|pair| pair.split_once('='))
    }

    /// The value that a field has by a name.
    pub fn named(&self, field: Field, name: &str) -> Option<&str> {
        let mut pairs = self.pairs(field);
        pairs.find_map(|(known, value)| (known == name).then_some(value))
    }

    /// What the fields from one to another say, a sentence each.
    pub(crate) fn sentences(&self, first: Field, last: Field) -> Vec<String> {
        let lines = self.lines();
        let lines = lines.filter(|(field, _)| (first.0..=last.0).contains(&field.0));
        lines
            .filter_map(|(field, value)| provider::sentence(field, value))
            .collect()
    }

    /// What departs from the standard in the requests, a sentence each.
    pub fn request_quirks(&self) -> Vec<String> {
        self.sentences(
            Field::CLIENT_SECRET_BASIC_ENCODING,
            Field::EXCHANGE_PARAMETERS,
        )
    }

    /// What the server calls a parameter of the authorization request.
    pub(crate) fn authorization_parameter<'a>(&'a self, name: &'a str) -> &'a str {
        let name_here = self.named(Field::AUTHORIZATION_PARAMETER_NAMES, name);
        name_here.unwrap_or(name)
    }

    /// Scopes as the server separates them. The plus is that of form encoding,
    /// which is put in when all is encoded.
    pub(crate) fn join_scope(&self, scope: &[String]) -> String {
        match self.get(Field::SCOPE_SEPARATOR) {
            None | Some("+") => scope.join(" "),
            Some(separator) => scope.join(separator),
        }
    }

    /// A query as it goes into the authorization URL. %20 is read as a space
    /// everywhere, + only by those who decode forms; so it is %20, unless the
    /// server wants its scopes to be joined with a plus. A literal plus is %2B in
    /// either.
    pub(crate) fn authorization_query(&self, form: String) -> String {
        match self.get(Field::SCOPE_SEPARATOR) {
            Some("+") => form,
            _ => form.replace('+', "%20"),
        }
    }

    /// The redirect URI as it goes into requests: itself, or the name by which the
    /// server knows it.
    pub(crate) fn redirect_uri<'a>(&'a self, redirect_uri: &'a str) -> &'a str {
        self.get(Field::REDIRECT_URI_SENT).unwrap_or(redirect_uri)
    }

    /// Adds the scope that brings a refresh token, where there is one.
    pub(crate) fn add_offline_scope(&self, scope: &mut Vec<String>) {
        if let Some(offline) = self.get(Field::OFFLINE_SCOPE)
            && !scope.iter().any(|name| name == offline)
        {
            scope.push(offline.to_owned());
        }
    }

    /// A token request's form in the server's own words.
    fn form(&self, form: Form, is_refresh: bool) -> Vec<(String, SecretString)> {
        let mut spoken = Vec::with_capacity(form.len());
        for (name, value) in form {
            let mut omitted = self.all(Field::REFRESH_PARAMETERS_OMITTED);
            if is_refresh && omitted.any(|omitted| omitted == name) {
                continue;
            }
            let at_refresh = self.named(Field::REFRESH_PARAMETER_NAMES, name);
            let name_here = at_refresh
                .filter(|_| is_refresh)
                .or_else(|| self.named(Field::TOKEN_PARAMETER_NAMES, name));
            let value = match name {
                "grant_type" => self.named(Field::GRANT_TYPES, value.reveal()),
                "redirect_uri" => self.get(Field::REDIRECT_URI_SENT),
                _ => None,
            }
            .map_or(value, SecretString::new);
            spoken.push((name_here.unwrap_or(name).to_owned(), value));
        }
        spoken
    }
}

/// The parameters of a request to an endpoint at which the client authenticates.
type Form = Vec<(&'static str, SecretString)>;

/// Writes a request to the token endpoint, or to one that speaks the same way:
/// by default a form that is posted.
pub(crate) fn write(
    config: &Config,
    client: &Client<'_>,
    url: Endpoint,
    mut headers: Vec<(String, SecretString)>,
    mut form: Form,
    further: &[(String, String)],
    secrets: Vec<SecretString>,
) -> Request {
    let dialect = &config.dialect;
    let mut grant_type = form.iter().filter(|(name, _)| *name == "grant_type");
    let is_refresh = grant_type.any(|(_, value)| value.reveal() == "refresh_token");
    let url = match dialect.get(Field::REFRESH_ENDPOINT).filter(|_| is_refresh) {
        // It was checked with the config.
        Some(refresh_endpoint) => Endpoint::parse(refresh_endpoint).unwrap_or(url),
        None => url,
    };
    if is_refresh && dialect.has(Field::REFRESH_SENDS_SCOPE) {
        let mut scope = config.scope.clone();
        dialect.add_offline_scope(&mut scope);
        form.push(("scope", scope.join(" ").into()));
    }
    for (name, value) in &mut form {
        if *name == "scope" && !dialect.is_standard() {
            let scope: Vec<_> = value.reveal().split(' ').map(str::to_owned).collect();
            *value = dialect.join_scope(&scope).into();
        }
    }
    if let (true, Some(secret)) = (dialect.has(Field::SECRET_AS_USERNAME), &client.secret) {
        headers.retain(|(name, _)| name != "authorization");
        let credentials = basic(secret.reveal(), "", BasicEncoding::Raw);
        headers.push(("authorization".to_owned(), credentials));
    }
    let mut parameters = dialect.form(form, is_refresh);
    let further = further.iter();
    parameters.extend(further.map(|(name, value)| (name.clone(), SecretString::new(value))));
    let format = dialect.get(Field::REFRESH_REQUEST_FORMAT);
    let format = format
        .filter(|_| is_refresh)
        .or_else(|| dialect.get(Field::TOKEN_REQUEST_FORMAT));
    let mut request = Request {
        method: Method::Post,
        url,
        headers,
        body: SecretString::default(),
        secrets,
        timeout_millis: config.timeout_millis(),
    };
    let content_type = |request: &mut Request, value| {
        request.headers.retain(|(name, _)| name != "content-type");
        if let Some(value) = value {
            let value = SecretString::new(value);
            request.headers.push(("content-type".to_owned(), value));
        }
    };
    match format {
        Some("json") => {
            content_type(&mut request, Some("application/json"));
            let mut object = Object::new();
            for (name, value) in &parameters {
                object.insert(name.clone(), Value::from(value.reveal()));
            }
            request.body = json::text(&Value::Object(object)).into();
        }
        Some("query") => {
            content_type(&mut request, None);
            request.method = Method::Get;
            request.url = request.url.with_query(encode(&parameters).reveal());
        }
        _ => request.body = encode(&parameters),
    }
    request
}

fn encode(parameters: &[(String, SecretString)]) -> SecretString {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        form.append_pair(name, value.reveal());
    }
    form.finish().into()
}

/// The request that exchanges the first token for a long-lived one, where the
/// server has such a step.
///
/// # Errors
/// The endpoint cannot be one.
pub(crate) fn exchange(
    config: &Config,
    client: &Client<'_>,
    access_token: &SecretString,
) -> Result<Option<Request>, &'static str> {
    let Some(url) = config.dialect.get(Field::EXCHANGE_ENDPOINT) else {
        return Ok(None);
    };
    let secret = client.secret.as_ref().map_or("", SecretString::reveal);
    let parameters: Vec<_> = config
        .dialect
        .pairs(Field::EXCHANGE_PARAMETERS)
        .map(|(name, value)| {
            let value = match value {
                "{access_token}" => access_token.reveal(),
                "{client_secret}" => secret,
                "{client_id}" => client.id.unwrap_or_default(),
                other => other,
            };
            (name.to_owned(), SecretString::new(value))
        })
        .collect();
    let accept = SecretString::new("application/json");
    Ok(Some(Request {
        method: Method::Get,
        url: Endpoint::parse(url)?.with_query(encode(&parameters).reveal()),
        headers: vec![("accept".to_owned(), accept)],
        body: SecretString::default(),
        secrets: vec![
            access_token.clone(),
            client.secret.clone().unwrap_or_default(),
        ],
        timeout_millis: config.timeout_millis(),
    }))
}
