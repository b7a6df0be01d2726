//! The authorization request that the user's browser carries (RFC 6749 section
//! 4.1.1), and the redirect that comes back (section 4.1.2).

use crate::config::{self, Config, Parameter, Prompt, ResponseMode};
use crate::dialect::{Dialect, Field};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ServerError, ViolationKind};
use crate::json::{Object, stored_fields};
use crate::metadata::Server;
use crate::pkce;
use crate::platform::Random;
use crate::secret::{SecretString, printable};
use crate::time::Timestamp;
use crate::token_request::{self, Form};
use serde_json::Value;
use subtle::ConstantTimeEq;

/// How long an authorization may take, in milliseconds.
pub const AUTHORIZATION_LIFETIME_MILLIS: u64 = 10 * 60 * 1000;

/// The longest redirect looked at, in bytes. Codes are long at some servers;
/// megabytes they are not.
pub const REDIRECT_LIMIT: usize = 64 * 1024;

/// What is asked of an authorization, beside what the config says.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationOptions {
    /// The redirect URI of the listener in use.
    pub redirect_uri: Option<String>,
    /// In place of the config's prompt.
    pub prompt: Vec<Prompt>,
    /// `login_hint` (OpenID Connect Core section 3.1.2.1).
    pub login_hint: Option<String>,
    /// Further parameters of this one request.
    pub parameters: Vec<Parameter>,
}

/// An authorization under way: everything needed to complete it, by any
/// instance on any node.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingAuthorization {
    /// The `state` that the response must bear.
    pub state: SecretString,
    /// The `nonce` that the id_token must bear.
    pub nonce: Option<SecretString>,
    /// The PKCE verifier.
    pub code_verifier: Option<SecretString>,
    /// Where the user is sent back to.
    pub redirect_uri: String,
    /// The scopes asked for.
    pub scope: Vec<String>,
    /// The server that was asked, so that the code goes to it and no other
    /// (RFC 9700 section 4.4).
    pub server: Server,
    /// The binding of the config that began it.
    pub binding: String,
    /// When it is too late.
    pub expires_at: Timestamp,
}

stored_fields!(PendingAuthorization {
    state,
    nonce,
    code_verifier,
    redirect_uri,
    scope,
    server,
    binding,
    expires_at,
});

/// Makes an authorization request: its parameters, without the further ones of
/// config and options, and what is kept until the answer comes.
///
/// # Errors
/// Not configured, where there is no redirect URI or an option collides with a
/// computed parameter.
pub fn begin(
    config: &Config,
    server: Server,
    options: &AuthorizationOptions,
    binding: &str,
    now: Timestamp,
    random: &impl Random,
) -> Result<(Form, PendingAuthorization)> {
    for (name, _) in &options.parameters {
        if config::is_computed(name) {
            return Err(Error::not_configured(
                name,
                "is set by the component",
                "remove it from the options and use the field that is for it",
            ));
        }
    }
    let redirect_uri = options
        .redirect_uri
        .clone()
        .or_else(|| config.redirect_uri.clone())
        .ok_or_else(|| {
            Error::not_configured(
                "redirect_uri",
                "is missing, and the options have none",
                "set it, or give that of a listener",
            )
        })?;
    let pending = PendingAuthorization {
        state: pkce::random_token(random),
        nonce: config.is_openid().then(|| pkce::random_token(random)),
        code_verifier: config.pkce.then(|| pkce::random_token(random)),
        redirect_uri,
        scope: requested_scope(config, &server),
        server,
        binding: binding.to_owned(),
        expires_at: now.plus_millis(AUTHORIZATION_LIFETIME_MILLIS),
    };
    let parameters = parameters(config, options, &pending);
    Ok((parameters, pending))
}

fn parameters(
    config: &Config,
    options: &AuthorizationOptions,
    pending: &PendingAuthorization,
) -> Form {
    let dialect = &config.dialect;
    let client_id = config.client_id.as_deref().unwrap_or_default();
    let response_type = dialect.get(Field::RESPONSE_TYPE).unwrap_or("code");
    let redirect_uri = dialect.redirect_uri(&pending.redirect_uri);
    // In this order because there is a server that takes no other.
    let mut form = vec![
        ("client_id", SecretString::new(client_id)),
        ("redirect_uri", SecretString::new(redirect_uri)),
        ("response_type", SecretString::new(response_type)),
    ];
    token_request::put_scope(dialect, &pending.scope, &mut form);
    form.push(("state", pending.state.clone()));
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value {
            form.push((name, SecretString::new(value)));
        }
    };
    if let Some(verifier) = &pending.code_verifier {
        let challenge = match dialect.get(Field::CODE_CHALLENGE_ENCODING) {
            Some("hex") => pkce::hex_challenge(verifier),
            _ => pkce::s256_challenge(verifier),
        };
        put("code_challenge", Some(challenge));
        put("code_challenge_method", Some("S256".to_owned()));
    }
    put(
        "nonce",
        pending
            .nonce
            .as_ref()
            .map(|nonce| nonce.reveal().to_owned()),
    );
    let prompt = effective_prompt(&options.prompt, config, &pending.scope);
    let prompt: Vec<_> = prompt.iter().map(|prompt| prompt.as_str()).collect();
    put("prompt", (!prompt.is_empty()).then(|| prompt.join(" ")));
    put("max_age", config.max_age.map(|seconds| seconds.to_string()));
    put("login_hint", options.login_hint.clone());
    // `query` is what comes without it.
    let response_mode = config
        .response_mode
        .filter(|mode| *mode != ResponseMode::Query);
    put("response_mode", response_mode.map(|mode| mode.to_string()));
    token_request::put_target(config, true, &mut form);
    form
}

/// The URL of an authorization request (RFC 6749 section 4.1.1), by the names
/// that the server has for its parameters.
pub(crate) fn url(
    endpoint: &Endpoint,
    dialect: &Dialect,
    form: &Form,
    further: &[Parameter],
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form {
        query.append_pair(dialect.authorization_parameter(name), value.reveal());
    }
    for (name, value) in further {
        query.append_pair(name, value);
    }
    let query = dialect.authorization_query(query.finish());
    let mut url = endpoint.with_query(&query).to_string();
    if let Some(fragment) = dialect.get(Field::AUTHORIZATION_FRAGMENT) {
        url.push('#');
        url.push_str(fragment);
    }
    url
}

/// What the config and the caller add to an authorization request, and the
/// provider where a refresh token is wanted. What the caller says of this one
/// request goes before what the config says of all.
pub(crate) fn further(config: &Config, options: &AuthorizationOptions) -> Vec<Parameter> {
    let mut further = config.authorization_parameters.clone();
    further.retain(|(name, _)| {
        let has_option = match name.as_str() {
            "prompt" => !options.prompt.is_empty(),
            "login_hint" => options.login_hint.is_some(),
            _ => false,
        };
        !has_option && token_request::is_new(name, &options.parameters)
    });
    further.extend_from_slice(&options.parameters);
    if config.wants_offline_access() {
        for line in config.dialect.all(Field::OFFLINE_PARAMETERS) {
            let (name, value) = line.pair();
            if token_request::is_new(name, &further) {
                further.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    further
}

/// An authorization request as the claims of a signed one (RFC 9101 section 4,
/// OpenID Connect Core section 6.1): what is there more than once is a list, and
/// an age a number.
pub(crate) fn claims(form: &Form, further: &[Parameter], claims: &mut Object) {
    let form = form.iter().map(|(name, value)| (*name, value.reveal()));
    let further = further.iter();
    let further = further.map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, text) in form.chain(further) {
        let value = match text.parse::<u64>() {
            Ok(seconds) if name == "max_age" => Value::from(seconds),
            _ => Value::from(text),
        };
        match claims.get_mut(name) {
            None => {
                claims.insert(name.to_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
}

/// The scopes sent: those configured, and where a refresh token is wanted the
/// scope that brings it: the provider's, or else `offline_access` if the server
/// knows it (OpenID Connect Core section 11). Of a server that does not list it the
/// config knows better, where it says that it is wanted.
pub(crate) fn requested_scope(config: &Config, server: &Server) -> Vec<String> {
    const OFFLINE: &str = "offline_access";
    let mut scope = config.scope.clone();
    if !config.dialect.is_standard() {
        if config.wants_offline_access() {
            config.dialect.add_offline_scope(&mut scope);
        }
        return scope;
    }
    let is_listed = |scopes: &Vec<String>| scopes.iter().any(|name| name == OFFLINE);
    let is_known = match &server.scopes {
        Some(scopes) if is_listed(scopes) => true,
        Some(_) if config.offline_access.is_none() => false,
        _ => config.is_openid(),
    };
    if config.wants_offline_access() && is_known && !scope.iter().any(|name| name == OFFLINE) {
        scope.push(OFFLINE.to_owned());
    }
    scope
}

/// What the user is asked. With `offline_access` it is consent by default: the
/// server gives no refresh token without (OpenID Connect Core section 11). A
/// provider says itself what a refresh token takes.
pub(crate) fn effective_prompt(asked: &[Prompt], config: &Config, scope: &[String]) -> Vec<Prompt> {
    match (asked, config.prompt.as_slice()) {
        ([], []) if !config.dialect.is_standard() => {
            let prompt = config.dialect.get(Field::OFFLINE_PROMPT);
            let prompt = prompt.filter(|_| config.wants_offline_access());
            let prompt = prompt.and_then(|name| config::named(Prompt::NAMES, name));
            prompt.into_iter().collect()
        }
        ([], []) if scope.iter().any(|name| name == "offline_access") => vec![Prompt::Consent],
        ([], configured) => configured.to_vec(),
        (asked, _) => asked.to_vec(),
    }
}

/// What came back, before anything of it is believed.
#[derive(Debug, PartialEq)]
pub struct Redirect {
    state: SecretString,
    issuer: Option<String>,
    answer: Answer,
    /// All of it, for what a provider adds.
    form: SecretString,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Code(SecretString),
    Error(ServerError),
    Neither,
}

impl Redirect {
    /// Reads a callback URL.
    ///
    /// # Errors
    /// A violation: it is too long, without `state`, or names a parameter twice
    /// (RFC 6749 section 3.1).
    pub fn from_url(url: &str) -> Result<Self> {
        let without_fragment = url.split('#').next().unwrap_or_default();
        let query = match without_fragment.split_once('?') {
            Some((_, query)) => query,
            None => "",
        };
        Self::from_form(query)
    }

    /// Reads the body of a form post.
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url).
    pub fn from_form(form: &str) -> Result<Self> {
        let violation = |message: &str| Error::violation(ViolationKind::Redirect, message);
        if form.len() > REDIRECT_LIMIT {
            return Err(violation("the redirect is too long to be one"));
        }
        let take = |wanted: &str| value_of(form, wanted);
        // Answers to requests that are never made: the implicit and hybrid flows
        // (RFC 9700 section 2.1.2), and JARM. There a `response` is a JWT; another
        // is a server's own and passed over (RFC 6749 section 4.1.2).
        for unasked in ["access_token", "id_token", "token", "response"] {
            let found = take(unasked)?;
            if found.is_some_and(|value| unasked != "response" || value.contains('.')) {
                return Err(violation(&format!(
                    "the redirect brings {unasked}, which was not asked for"
                )));
            }
        }
        let (code, error) = (take("code")?, take("error")?);
        let (description, uri) = (take("error_description")?, take("error_uri")?);
        let issuer = take("iss")?;
        let state = take("state")?
            .ok_or_else(|| Error::violation(ViolationKind::State, "the redirect bears no state"))?;
        let answer = match (code, error) {
            (_, Some(code)) => Answer::Error(ServerError::new(
                printable(&code, &[]),
                description.as_deref().map(|text| printable(text, &[])),
                uri.as_deref().map(|text| printable(text, &[])),
                None,
            )),
            (Some(code), None) if !code.is_empty() => Answer::Code(code.into()),
            _ => Answer::Neither,
        };
        Ok(Self {
            state: state.into(),
            issuer,
            answer,
            form: SecretString::new(form),
        })
    }

    /// The same as the provider means it: with the code by the name that it has
    /// there.
    ///
    /// # Errors
    /// A violation, where the code is named twice.
    pub(crate) fn under(mut self, dialect: &Dialect) -> Result<Self> {
        let code = dialect.get(Field::CALLBACK_CODE_PARAMETER);
        if let (Some(name), Answer::Neither) = (code, &self.answer) {
            match value_of(self.form.reveal(), name)? {
                Some(code) if !code.is_empty() => self.answer = Answer::Code(code.into()),
                _ => {}
            }
        }
        Ok(self)
    }

    /// What the provider adds to the redirect and callers need.
    pub(crate) fn kept(&self, dialect: &Dialect) -> Vec<Parameter> {
        let mut kept = Vec::new();
        for line in dialect.all(Field::CALLBACK_PARAMETERS) {
            if let Ok(Some(value)) = value_of(self.form.reveal(), line.value) {
                kept.push((line.value.to_owned(), value));
            }
        }
        kept
    }

    /// Sends what follows to the server that the redirect names, where the
    /// provider has several and names them so.
    ///
    /// # Errors
    /// A violation, where it is none of the provider's.
    pub(crate) fn choose_server(&self, dialect: &Dialect, server: &mut Server) -> Result<()> {
        let Some(parameter) = dialect.get(Field::CALLBACK_SERVER_PARAMETER) else {
            return Ok(());
        };
        let Some(named) = value_of(self.form.reveal(), parameter)? else {
            return Ok(());
        };
        let named = named.trim_end_matches('/');
        if !dialect.lists(Field::CALLBACK_SERVERS, named) {
            let shown = printable(named, &[]);
            let message = [
                "the redirect names a server that is none of the provider's: ",
                &shown,
            ];
            return Err(Error::violation(ViolationKind::Issuer, message.concat()));
        }
        for (_, url) in server.endpoints.iter_mut() {
            let Some(text) = url else {
                continue;
            };
            for known in dialect.all(Field::CALLBACK_SERVERS) {
                if let Some(path) = text.strip_prefix(known.value)
                    && path.starts_with('/')
                {
                    *url = Some([named, path].concat());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether this bears that `state`, compared in constant time.
    pub fn bears_state(&self, state: &str) -> bool {
        self.state
            .reveal()
            .as_bytes()
            .ct_eq(state.as_bytes())
            .into()
    }

    /// Which of the pending authorizations this answers. Each is looked at, so
    /// that the time taken tells nothing.
    pub fn position_in(&self, pending: &[PendingAuthorization]) -> Option<usize> {
        let mut found = None;
        for (position, candidate) in pending.iter().enumerate() {
            if self.bears_state(candidate.state.reveal()) {
                found = Some(position);
            }
        }
        found
    }

    /// Holds the redirect against the authorization that it claims to answer.
    ///
    /// # Errors
    /// A violation: the issuer is another, or missing though promised (RFC 9207
    /// section 2.4), or there is neither a code nor an error. Such a redirect is
    /// not the answer, which may still come.
    pub fn check(&self, pending: &PendingAuthorization) -> Result<()> {
        let violation = |message: String| Err(Error::violation(ViolationKind::Issuer, message));
        match (&self.issuer, &pending.server.issuer) {
            (Some(found), Some(asked)) if found != asked => violation(format!(
                "the redirect is from the issuer {}, not from {asked}",
                printable(found, &[])
            )),
            (None, Some(asked)) if pending.server.sends_issuer => violation(format!(
                "the redirect names no issuer, though {asked} says that it does"
            )),
            _ if self.answer == Answer::Neither => Err(neither()),
            _ => Ok(()),
        }
    }

    /// The code that the redirect brings.
    ///
    /// # Errors
    /// Denied, where it brings an error (RFC 6749 section 4.1.2.1).
    pub fn into_code(self) -> Result<SecretString> {
        match self.answer {
            Answer::Code(code) => Ok(code),
            Answer::Error(error) => Err(Error::denied(error)),
            Answer::Neither => Err(neither()),
        }
    }
}

/// The value of a form's parameter.
///
/// # Errors
/// A violation, where it is named twice (RFC 6749 section 3.1).
fn value_of(form: &str, wanted: &str) -> Result<Option<String>> {
    let mut found = None;
    for (name, value) in form_urlencoded::parse(form.as_bytes()) {
        if name != wanted {
            continue;
        }
        if found.is_some() {
            return Err(Error::violation(
                ViolationKind::Redirect,
                ["the redirect names ", wanted, " twice"].concat(),
            ));
        }
        found = Some(value.into_owned());
    }
    Ok(found)
}

fn neither() -> Box<Error> {
    Error::violation(
        ViolationKind::Redirect,
        "the redirect bears neither a code nor an error",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unboxed as _;
    use std::cell::Cell;
    use url::Url;

    struct Counting(Cell<u8>);
    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0.replace(self.0.get().wrapping_add(1));
            }
        }
    }

    fn server() -> Server {
        let mut server = Server {
            issuer: Some("https://as.example".to_owned()),
            ..Server::default()
        };
        server.endpoints.authorization = Some("https://as.example/auth?tenant=t".to_owned());
        server
    }

    fn config() -> Config {
        Config {
            client_id: Some("id".to_owned()),
            redirect_uri: Some("http://127.0.0.1:1/oauth2".to_owned()),
            ..Config::default()
        }
    }

    fn begun(config: &Config, server: Server) -> (Vec<(String, String)>, PendingAuthorization) {
        let options = AuthorizationOptions::default();
        let random = Counting(Cell::new(0));
        let (form, pending) =
            begin(config, server, &options, "b", Timestamp(0), &random).expect("begun");
        let endpoint = pending.server.authorization_endpoint().expect("one");
        let further = &config.authorization_parameters;
        let url =
            Url::parse(&super::url(&endpoint, &config.dialect, &form, further)).expect("a URL");
        let pairs = url.query_pairs().into_owned().collect();
        (pairs, pending)
    }

    fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut values = pairs.iter().filter(|(n, _)| n == name);
        let found = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        found
    }

    #[test]
    fn the_request_is_for_a_code_and_keeps_the_endpoints_query() {
        let (pairs, pending) = begun(&config(), server());
        assert_eq!(value(&pairs, "tenant"), Some("t"));
        assert_eq!(value(&pairs, "response_type"), Some("code"));
        assert_eq!(value(&pairs, "client_id"), Some("id"));
        assert_eq!(
            value(&pairs, "redirect_uri"),
            Some("http://127.0.0.1:1/oauth2")
        );
        assert_eq!(value(&pairs, "state"), Some(pending.state.reveal()));
    }

    /// Shows: RFC 7636.
    #[test]
    fn pkce_is_s256_with_a_fresh_verifier_each_time() {
        let (pairs, first) = begun(&config(), server());
        let verifier = first.code_verifier.expect("a verifier");
        assert_eq!(value(&pairs, "code_challenge_method"), Some("S256"));
        assert_eq!(
            value(&pairs, "code_challenge"),
            Some(pkce::s256_challenge(&verifier).as_str())
        );
        assert_ne!(verifier, first.state);
    }

    #[test]
    fn openid_requests_bear_a_nonce_and_others_do_not() {
        let mut config = config();
        assert_eq!(value(&begun(&config, server()).0, "nonce"), None);
        config.scope = vec!["openid".to_owned()];
        let (pairs, pending) = begun(&config, server());
        assert_eq!(
            value(&pairs, "nonce"),
            pending.nonce.as_ref().map(|nonce| nonce.reveal())
        );
        assert!(pending.nonce.is_some());
    }

    #[test]
    fn offline_access_is_asked_for_with_consent_where_the_server_knows_it() {
        let mut config = config();
        config.scope = vec!["openid".to_owned()];
        let (pairs, _) = begun(&config, server());
        assert_eq!(value(&pairs, "scope"), Some("openid offline_access"));
        assert_eq!(value(&pairs, "prompt"), Some("consent"));

        let mut without = server();
        without.scopes = Some(vec!["openid".to_owned()]);
        let (pairs, _) = begun(&config, without);
        assert_eq!(value(&pairs, "scope"), Some("openid"));
        assert_eq!(value(&pairs, "prompt"), None);

        config.offline_access = Some(false);
        assert_eq!(value(&begun(&config, server()).0, "scope"), Some("openid"));
    }

    #[test]
    fn offline_access_that_the_config_says_is_asked_for_though_the_server_does_not_list_it() {
        let mut config = config();
        config.offline_access = Some(true);
        let mut server = server();
        server.scopes = Some(vec!["openid".to_owned()]);
        // It is a scope of OpenID Connect.
        assert_eq!(value(&begun(&config, server.clone()).0, "scope"), None);
        config.scope = vec!["openid".to_owned()];
        let (pairs, _) = begun(&config, server);
        assert_eq!(value(&pairs, "scope"), Some("openid offline_access"));
    }

    #[test]
    fn spaces_are_percent_encoded_and_plus_stays_plus() {
        let mut config = config();
        config.scope = vec!["a".to_owned(), "b+c".to_owned()];
        let options = AuthorizationOptions::default();
        let random = Counting(Cell::new(0));
        let (form, pending) =
            begin(&config, server(), &options, "b", Timestamp(0), &random).expect("begun");
        let endpoint = pending.server.authorization_endpoint().expect("one");
        let url = super::url(&endpoint, &Dialect::default(), &form, &[]);
        assert!(url.contains("scope=a%20b%2Bc"), "{url}");
    }

    #[test]
    fn an_option_cannot_take_the_place_of_a_computed_parameter() {
        for name in ["state", "Redirect_URI", "code_challenge"] {
            let options = AuthorizationOptions {
                parameters: vec![(name.to_owned(), "x".to_owned())],
                ..AuthorizationOptions::default()
            };
            let random = Counting(Cell::new(0));
            let begun = begin(&config(), server(), &options, "b", Timestamp(0), &random);
            assert!(
                matches!(begun.unboxed(), Err(Error::NotConfigured(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_request_in_claims_has_lists_and_numbers() {
        let form = vec![
            ("resource", SecretString::new("a")),
            ("max_age", SecretString::new("60")),
            ("resource", SecretString::new("b")),
            ("login_hint", SecretString::new("7")),
        ];
        let further = [("resource".to_owned(), "c".to_owned())];
        let mut object = Object::new();
        claims(&form, &further, &mut object);
        assert_eq!(
            Value::Object(object),
            serde_json::json!({"resource": ["a", "b", "c"], "max_age": 60, "login_hint": "7"})
        );
    }

    fn pending(issuer_sent: bool) -> PendingAuthorization {
        let mut server = server();
        server.sends_issuer = issuer_sent;
        begun(&config(), server).1
    }

    fn answer(pending: &PendingAuthorization, query: &str) -> Result<SecretString> {
        let url = format!(
            "http://127.0.0.1:1/oauth2?state={}&{query}",
            pending.state.reveal()
        );
        let redirect = Redirect::from_url(&url)?;
        redirect.check(pending)?;
        redirect.into_code()
    }

    fn kind(result: Result<SecretString>) -> ViolationKind {
        match result.unboxed() {
            Err(Error::ProtocolViolation(violation)) => violation.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_code_from_the_issuer_asked_is_accepted() {
        let pending = pending(true);
        let code = answer(&pending, "code=c&iss=https%3A%2F%2Fas.example");
        assert_eq!(code, Ok(SecretString::new("c")));
    }

    #[test]
    fn a_foreign_issuer_stops_everything_even_an_error() {
        let pending = pending(false);
        for query in [
            "code=c&iss=https://evil.example",
            "error=access_denied&iss=https://evil.example",
        ] {
            assert_eq!(kind(answer(&pending, query)), ViolationKind::Issuer);
        }
    }

    /// Shows: RFC 9207.
    #[test]
    fn an_issuer_that_was_promised_must_be_there() {
        assert_eq!(
            kind(answer(&pending(true), "code=c")),
            ViolationKind::Issuer
        );
        assert!(answer(&pending(false), "code=c").is_ok());
    }

    /// Shows: RFC 6749 section 4.1.2.1.
    #[test]
    fn an_error_is_denied_with_what_the_server_said() {
        let error = answer(
            &pending(false),
            "error=access_denied&error_description=no%0Away",
        );
        assert_eq!(
            error.unboxed(),
            Err(Error::Denied(ServerError {
                code: "access_denied".to_owned(),
                description: Some("no way".to_owned()),
                http_status: None,
            }))
        );
    }

    #[test]
    fn a_parameter_twice_is_refused() {
        let pending = pending(false);
        for query in [
            "code=a&code=b",
            "code=a&state=x",
            "code=a&iss=x&iss=y",
            "error=a&error=b",
        ] {
            assert_eq!(
                kind(answer(&pending, query)),
                ViolationKind::Redirect,
                "{query}"
            );
        }
    }

    #[test]
    fn an_answer_of_a_flow_that_was_not_asked_for_is_refused() {
        for query in [
            "code=c&access_token=x",
            "code=c&id_token=x",
            "code=c&token=x",
            "id_token=x&token=y",
            "response=x.y.z",
        ] {
            assert_eq!(
                kind(answer(&pending(false), query)),
                ViolationKind::Redirect,
                "{query}"
            );
        }
    }

    #[test]
    fn the_issuer_is_read_as_in_rfc_9207() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/oauth.json")).expect("JSON");
        for vector in vectors["iss_responses"].as_array().expect("a list") {
            let uri = vector["uri"].as_str().expect("text");
            let redirect = Redirect::from_url(uri).expect("it is well-formed");
            assert_eq!(redirect.issuer.as_deref(), vector["iss"].as_str(), "{uri}");
        }
    }

    #[test]
    fn neither_code_nor_error_is_refused() {
        for query in ["", "code=", "x=y"] {
            assert_eq!(
                kind(answer(&pending(false), query)),
                ViolationKind::Redirect,
                "{query}"
            );
        }
    }

    #[test]
    fn a_redirect_without_state_is_refused() {
        let redirect = Redirect::from_url("http://127.0.0.1:1/oauth2?code=c");
        assert_eq!(
            kind(redirect.map(|_| SecretString::default())),
            ViolationKind::State
        );
    }

    #[test]
    fn megabytes_are_refused_unread() {
        let url = format!(
            "http://127.0.0.1/oauth2?state=s&code={}",
            "a".repeat(2 << 20)
        );
        assert_eq!(
            kind(Redirect::from_url(&url).map(|_| SecretString::default())),
            ViolationKind::Redirect
        );
    }

    #[test]
    fn only_the_same_state_answers() {
        let pending = [pending(false)];
        let of = |state: &str| {
            let redirect =
                Redirect::from_form(&format!("code=c&state={state}")).expect("well-formed");
            redirect.position_in(&pending)
        };
        assert_eq!(of(pending[0].state.reveal()), Some(0));
        assert_eq!(of(""), None);
        assert_eq!(of(&pending[0].state.reveal()[1..]), None);
        assert_eq!(of("x"), None);
    }

    #[test]
    fn an_error_goes_before_a_code() {
        let redirect = Redirect::from_form("state=s&code=c&error=access_denied");
        assert!(redirect.expect("a redirect").into_code().is_err());
    }

    #[test]
    fn the_fragment_of_a_callback_is_no_part_of_its_answer() {
        let redirect = Redirect::from_url("http://127.0.0.1:1/cb?state=s&code=c#_=_");
        let code = redirect.expect("a redirect").into_code().expect("a code");
        assert_eq!(code.reveal(), "c");
    }
}
