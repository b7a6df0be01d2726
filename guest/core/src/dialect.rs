//! How a server departs from the standard, as its provider's entry of the
//! catalogue declares it. A connection without a provider speaks the standard,
//! which is the default, and reads tolerantly all the same.
//!
//! Nothing here knows any one provider: what cannot be declared is a gap in the
//! format, which `guest/providers/README.md` describes.

use crate::client_authentication::{Client, basic};
use crate::config::{self, BasicEncoding, Config, RedirectUris};
use crate::endpoint::Endpoint;
use crate::http::{Method, Request};
use crate::json::{self, Object};
use crate::metadata::Server;
use crate::provider;
use crate::secret::SecretString;
use crate::token_request::{Form, is_new, put_scope};
use serde_json::Value;

/// A field of a catalogue entry, by the character that its lines begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub(crate) u8);

include!(concat!(env!("OUT_DIR"), "/fields.rs"));

impl Field {
    /// The endpoint of a place in
    /// [`EndpointUrls::iter`](crate::config::EndpointUrls::iter): there they come
    /// in the same order.
    pub(crate) fn of_endpoint(place: usize) -> Self {
        Self(Self::AUTHORIZATION_ENDPOINT.0 + place as u8)
    }

    /// Whether its value is the URL of a server, which is used as one.
    pub(crate) fn is_endpoint(self) -> bool {
        (Self::ISSUER.0..=Self::EXCHANGE_ENDPOINT.0).contains(&self.0)
    }
}

/// The declared facts of a server: lines, each the character of a field and a
/// value. What is not declared is as the standard has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dialect {
    pub(crate) text: String,
    /// The fields of the config that it has filled in, by their names in JSON.
    pub(crate) filled: Vec<&'static str>,
}

/// One value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    /// The field.
    pub field: Field,
    /// The value.
    pub value: &'a str,
}

impl<'a> Line<'a> {
    /// The name and the value of a field that has values by name.
    #[inline(never)]
    pub fn pair(self) -> (&'a str, &'a str) {
        self.value.split_once('=').unwrap_or((self.value, ""))
    }
}

/// Values of a dialect. One type with one way of going on: iterators made of
/// closures would be written out again wherever they are used.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a str,
    wanted: Option<Field>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Line<'a>> {
        loop {
            let (line, rest) = self.rest.split_once('\n')?;
            self.rest = rest;
            let field = Field(*line.as_bytes().first()?);
            if self.wanted.is_none_or(|wanted| wanted == field) {
                let value = line.get(1..)?;
                return Some(Line { field, value });
            }
        }
    }
}

impl Dialect {
    pub(crate) fn new(text: String) -> Self {
        Self {
            text,
            filled: Vec::new(),
        }
    }

    /// Whether nothing is declared: there is no provider.
    pub fn is_standard(&self) -> bool {
        self.text.is_empty()
    }

    /// Each field with its value, in order.
    pub fn lines(&self) -> Lines<'_> {
        Lines {
            rest: &self.text,
            wanted: None,
        }
    }

    /// Every value of a field.
    pub fn all(&self, field: Field) -> Lines<'_> {
        Lines {
            rest: &self.text,
            wanted: Some(field),
        }
    }

    /// The value of a field.
    #[inline(never)]
    pub fn get(&self, field: Field) -> Option<&str> {
        Some(self.all(field).next()?.value)
    }

    /// Whether a field is declared.
    pub fn has(&self, field: Field) -> bool {
        self.get(field).is_some()
    }

    /// Whether a field has that among its values.
    pub fn lists(&self, field: Field, value: &str) -> bool {
        self.all(field).any(|line| line.value == value)
    }

    /// The number that a field holds.
    #[inline(never)]
    pub fn number(&self, field: Field) -> Option<u32> {
        self.get(field)?.parse().ok()
    }

    /// The value that a field has by a name.
    #[inline(never)]
    pub fn named(&self, field: Field, name: &str) -> Option<&str> {
        for line in self.all(field) {
            let (known, value) = line.pair();
            if known == name {
                return Some(value);
            }
        }
        None
    }

    /// What the fields from one to another say, a sentence each.
    #[inline(never)]
    pub(crate) fn sentences(&self, first: Field, last: Field) -> Vec<String> {
        let mut sentences = Vec::new();
        for line in self.lines() {
            if first.0 <= line.field.0 && line.field.0 <= last.0 {
                sentences.extend(provider::sentence(line.field, line.value));
            }
        }
        sentences
    }

    /// What departs from the standard in the requests of a config, a sentence
    /// each.
    pub fn request_quirks(&self, config: &Config) -> Vec<String> {
        let first = match config.signing_key {
            Some(_) => Field::CLIENT_SECRET_ASSERTION,
            // It makes no assertion.
            None => Field::CLIENT_SECRET_BASIC_ENCODING,
        };
        self.sentences(first, Field::EXCHANGE_PARAMETERS)
    }

    /// What the server calls a parameter of the authorization request.
    pub(crate) fn authorization_parameter<'a>(&'a self, name: &'a str) -> &'a str {
        let name_here = self.named(Field::AUTHORIZATION_PARAMETER_NAMES, name);
        name_here.unwrap_or(name)
    }

    /// Scopes as the server separates them. The plus is that of form encoding,
    /// which is put in when all is encoded.
    pub(crate) fn separate_scope(&self, scope: &str) -> String {
        match self.get(Field::SCOPE_SEPARATOR) {
            None | Some("+") => scope.to_owned(),
            Some(separator) => scope.replace(" ", separator),
        }
    }

    /// A query as it goes into the authorization URL. %20 is read as a space
    /// everywhere, + only by those who decode forms; so it is %20, unless the
    /// server wants its scopes to be joined with a plus. A literal plus is %2B in
    /// either.
    pub(crate) fn authorization_query(&self, form: String) -> String {
        match self.get(Field::SCOPE_SEPARATOR) {
            Some("+") => form,
            _ => form.replace("+", "%20"),
        }
    }

    /// The `iss` claim of the client's assertion, where it is not the client
    /// identifier (RFC 7523 section 3).
    pub fn assertion_issuer(&self, redirect_uri: Option<&str>) -> Option<String> {
        let issuer = self.get(Field::ASSERTION_ISSUER)?;
        if issuer != "{redirect_host}" {
            return Some(issuer.to_owned());
        }
        let redirect_uri = Endpoint::parse(redirect_uri?).ok()?;
        Some(redirect_uri.host().to_owned())
    }

    /// The `aud` claim of it, where it is none of the usual ones.
    pub(crate) fn assertion_audience<'a>(&'a self, server: &'a Server) -> Option<&'a str> {
        match self.get(Field::ASSERTION_AUDIENCE)? {
            "{token_endpoint}" => server.endpoints.token.as_deref(),
            audience => Some(audience),
        }
    }

    /// Whether the client secret is an assertion that is made of the config's key.
    pub(crate) fn makes_secret(&self, config: &Config) -> bool {
        self.has(Field::CLIENT_SECRET_ASSERTION)
            && config.client_secret.is_none()
            && config.signing_key.is_some()
    }

    /// Which redirect URIs the server accepts, where that is known.
    pub(crate) fn redirect_uris(&self) -> Option<RedirectUris> {
        config::named(RedirectUris::NAMES, self.get(Field::REDIRECT_URIS)?)
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

    /// A request's form in the server's own words.
    fn form(&self, form: Form, purpose: Purpose) -> Vec<(String, SecretString)> {
        let (names, _) = purpose.fields();
        let mut spoken = Vec::with_capacity(form.len());
        for (name, value) in form {
            if purpose == Purpose::Refresh && self.lists(Field::REFRESH_PARAMETERS_OMITTED, name) {
                continue;
            }
            let name_here = self
                .named(names, name)
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

/// What a request is for, as far as servers have ways of their own for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A token is asked for anew (RFC 6749 section 4).
    Token,
    /// A token is refreshed (RFC 6749 section 6).
    Refresh,
    /// A token is revoked (RFC 7009).
    Revocation,
    /// Anything else.
    Other,
}

impl Purpose {
    /// Whether it is a request to the token endpoint (RFC 6749 section 3.2).
    pub fn is_for_token(self) -> bool {
        matches!(self, Self::Token | Self::Refresh)
    }

    /// The fields that say what its parameters are called and how they are
    /// written, each before that of all requests.
    fn fields(self) -> (Field, Field) {
        match self {
            Self::Refresh => (
                Field::REFRESH_PARAMETER_NAMES,
                Field::REFRESH_REQUEST_FORMAT,
            ),
            Self::Revocation => (
                Field::REVOCATION_PARAMETER_NAMES,
                Field::REVOCATION_REQUEST_FORMAT,
            ),
            Self::Token | Self::Other => {
                (Field::TOKEN_PARAMETER_NAMES, Field::TOKEN_REQUEST_FORMAT)
            }
        }
    }
}

/// Writes the parameters into a request to the token endpoint, or to one that
/// speaks the same way: by default a form that is posted.
pub(crate) fn write(
    config: &Config,
    client: &Client<'_>,
    mut request: Request,
    mut form: Form,
    further: &[(String, String)],
    purpose: Purpose,
) -> Request {
    let dialect = &config.dialect;
    let is_refresh = purpose == Purpose::Refresh;
    if let Some(refresh_endpoint) = dialect.get(Field::REFRESH_ENDPOINT)
        && is_refresh
        // It was checked with the config.
        && let Ok(url) = beside(config, &request.url, refresh_endpoint)
    {
        request.url = url;
    }
    if is_refresh && dialect.has(Field::REFRESH_SENDS_SCOPE) {
        let mut scope = config.scope.clone();
        dialect.add_offline_scope(&mut scope);
        form.retain(|(name, _)| *name != "scope");
        put_scope(dialect, &scope, &mut form);
    }
    if let Some(uri) = &config.redirect_uri
        && is_refresh
        && dialect.has(Field::REFRESH_SENDS_REDIRECT_URI)
    {
        form.push(("redirect_uri", SecretString::new(uri)));
    }
    if let (true, Some(secret)) = (dialect.has(Field::SECRET_AS_USERNAME), &client.secret) {
        let headers = &mut request.headers;
        headers.retain(|(name, _)| name != "authorization");
        let credentials = basic(secret.reveal(), "", BasicEncoding::Raw);
        headers.push(("authorization".to_owned(), credentials));
    }
    let mut parameters = dialect.form(form, purpose);
    parameters.retain(|(name, _)| is_new(name, further));
    for (name, value) in further {
        parameters.push((name.clone(), SecretString::new(value)));
    }
    let (_, format) = purpose.fields();
    let format = dialect.get(format);
    let format = format.or_else(|| dialect.get(Field::TOKEN_REQUEST_FORMAT));
    for (name, value) in &request.headers {
        if let Some((_, credentials)) = value.reveal().split_once(' ')
            && name == "authorization"
        {
            request.secrets.push(SecretString::new(credentials));
        }
    }
    if purpose == Purpose::Revocation {
        if dialect.has(Field::REVOCATION_METHOD) {
            request.method = Method::Delete;
        }
    } else if format == Some("query") {
        request.method = Method::Get;
    }
    match format {
        Some("json") => {
            let mut object = Object::new();
            for (name, value) in &parameters {
                object.insert(name.clone(), Value::from(value.reveal()));
            }
            request.body = json::text(&Value::Object(object)).into();
        }
        Some("query") => request.url = request.url.with_query(encode(&parameters).reveal()),
        Some("none") => {}
        _ => request.body = encode(&parameters),
    }
    let has_body = !request.body.reveal().is_empty();
    for (name, value) in &mut request.headers {
        if name == "content-type" && format == Some("json") {
            *value = SecretString::new("application/json");
        }
    }
    request
        .headers
        .retain(|(name, _)| has_body || name != "content-type");
    request
}

/// An endpoint that is declared beside the token endpoint. Where the config names
/// another server than the provider's, it is there too, by the same path: what one
/// server issued is shown to no other.
fn beside(
    config: &Config,
    token_endpoint: &Endpoint,
    declared: &str,
) -> Result<Endpoint, &'static str> {
    let endpoint = Endpoint::parse(declared)?;
    let is_by_hand = config.issuer.is_some() || config.endpoints.token.is_some();
    let declared = config.dialect.get(Field::TOKEN_ENDPOINT);
    let declared = declared.and_then(|url| Endpoint::parse(url).ok());
    let is_elsewhere = declared.is_none_or(|url| url != url.on_server_of(token_endpoint));
    if is_by_hand && is_elsewhere {
        return Ok(endpoint.on_server_of(token_endpoint));
    }
    Ok(endpoint)
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
    token_endpoint: &Endpoint,
    access_token: &SecretString,
) -> Result<Option<Request>, &'static str> {
    let Some(url) = config.dialect.get(Field::EXCHANGE_ENDPOINT) else {
        return Ok(None);
    };
    let secret = client.secret.as_ref().map_or("", SecretString::reveal);
    let mut parameters = Vec::new();
    for line in config.dialect.all(Field::EXCHANGE_PARAMETERS) {
        let (name, value) = line.pair();
        let value = match value {
            "{access_token}" => access_token.reveal(),
            "{client_secret}" => secret,
            "{client_id}" => client.id.unwrap_or_default(),
            other => other,
        };
        parameters.push((name.to_owned(), SecretString::new(value)));
    }
    let accept = SecretString::new("application/json");
    Ok(Some(Request {
        method: Method::Get,
        url: beside(config, token_endpoint, url)?.with_query(encode(&parameters).reveal()),
        headers: vec![("accept".to_owned(), accept)],
        body: SecretString::default(),
        secrets: vec![
            access_token.clone(),
            client.secret.clone().unwrap_or_default(),
        ],
        timeout_millis: config.timeout_millis(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientAuthentication;
    use crate::token_request;

    fn dialect(lines: &[(Field, &str)]) -> Dialect {
        let lines = lines
            .iter()
            .map(|(field, value)| format!("{}{value}\n", char::from(field.0)));
        Dialect::new(lines.collect())
    }

    #[test]
    fn a_dialect_gives_the_values_of_its_fields() {
        let dialect = dialect(&[
            (Field::NAME, "Example"),
            (Field::CALLBACK_PARAMETERS, "a"),
            (Field::CALLBACK_PARAMETERS, "b"),
            (Field::GRANT_TYPES, "password=pw=1"),
            (Field::REFRESH_SENDS_SCOPE, ""),
        ]);
        assert_eq!(dialect.get(Field::NAME), Some("Example"));
        assert!(dialect.lists(Field::CALLBACK_PARAMETERS, "b"));
        assert_eq!(dialect.named(Field::GRANT_TYPES, "password"), Some("pw=1"));
        assert!(dialect.has(Field::REFRESH_SENDS_SCOPE));
        assert_eq!(dialect.get(Field::PKCE), None);
        assert_eq!(dialect.lines().count(), 5);
    }

    #[test]
    fn an_assertion_is_issued_by_the_host_of_the_redirect_where_that_is_declared() {
        // Known deviation 43.
        let revolut = dialect(&[(Field::ASSERTION_ISSUER, "{redirect_host}")]);
        let issuer = revolut.assertion_issuer(Some("https://app.example/cb"));
        assert_eq!(issuer.as_deref(), Some("app.example"));
        assert_eq!(revolut.assertion_issuer(None), None);
        let apple = dialect(&[(Field::ASSERTION_ISSUER, "TEAM")]);
        assert_eq!(apple.assertion_issuer(None).as_deref(), Some("TEAM"));
        assert_eq!(Dialect::default().assertion_issuer(None), None);
    }

    #[test]
    fn a_request_that_has_its_parameters_in_the_query_does_not_print_them() {
        let config = Config {
            dialect: dialect(&[(Field::TOKEN_REQUEST_FORMAT, "query")]),
            ..Config::default()
        };
        let client = Client {
            id: Some("id"),
            secret: None,
            assertion: None,
            method: ClientAuthentication::None,
            basic_encoding: BasicEncoding::FormUrlencoded,
            access_token: None,
        };
        let url = Endpoint::parse("https://as.example/token").expect("an endpoint");
        let form = vec![("code", SecretString::new("very-secret"))];
        let request = token_request::build(&config, url, &client, form, &[], Purpose::Other);
        assert!(request.url.to_string().contains("very-secret"));
        assert_eq!(format!("{request:?}"), "GET https://as.example/token");
    }
}
