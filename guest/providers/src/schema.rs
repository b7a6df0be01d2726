//! The fields that an entry of the catalogue can have. `README.md` explains each;
//! a test holds the two together.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A line of text.
    Text,
    /// The URL of a page for people.
    Page,
    /// The URL of an endpoint, with parameters in braces.
    Endpoint,
    /// `true`; what is not so is left out.
    Flag,
    /// A number above 0.
    Number,
    /// One of those.
    Choice(&'static [&'static str]),
    /// Texts, in an array.
    List,
    /// Texts by name, in an object.
    Map,
    /// What the provider needs to be told.
    Parameters,
}

/// Which source has to be named for a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Group {
    /// None: it speaks for itself.
    Plain,
    /// `sources.endpoints`.
    Endpoints,
    /// `sources.behaviour`.
    Behaviour,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in the source files.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Which source has to be named for it.
    pub group: Group,
    /// The field of a config that it sets, where it sets one.
    pub config: Option<&'static str>,
    /// What is peculiar about a provider that has it, in one sentence: `%` is
    /// the value, `&` the value as a time, `$` the name that a map has it by.
    /// Empty: nothing is.
    pub sentence: &'static str,
}

const fn field(name: &'static str, kind: Kind, group: Group) -> Field {
    Field {
        name,
        kind,
        group,
        config: None,
        sentence: "",
    }
}

impl Field {
    const fn sets(self, config: &'static str) -> Self {
        Self {
            config: Some(config),
            ..self
        }
    }

    const fn says(self, sentence: &'static str) -> Self {
        Self { sentence, ..self }
    }
}

/// The most fields that there can be: each has a printable character.
pub const MOST_FIELDS: usize = 78;

/// The character of the first field.
pub const FIRST_TAG: u8 = b'0';

use Group::{Behaviour, Endpoints, Plain};
use Kind::{Choice, Endpoint, Flag, List, Map, Number, Page, Parameters, Text};

const METHODS: &[&str] = &[
    "none",
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
];

/// Those of endpoints that are about a token, which may be shown itself.
const METHODS_ABOUT_TOKENS: &[&str] = &[
    "none",
    "client_secret_basic",
    "client_secret_post",
    "access_token",
];

/// Every field. The order is that of the compiled form, in which an entry is
/// read from the first line on: what is asked for most often goes first.
pub const FIELDS: &[Field] = &[
    field("name", Text, Plain),
    field("parameters", Parameters, Plain),
    // Endpoints.
    field("issuer", Endpoint, Endpoints).sets("issuer"),
    field("authorization_endpoint", Endpoint, Endpoints).sets("authorization_endpoint"),
    field("token_endpoint", Endpoint, Endpoints).sets("token_endpoint"),
    field("revocation_endpoint", Endpoint, Endpoints).sets("revocation_endpoint"),
    field("introspection_endpoint", Endpoint, Endpoints).sets("introspection_endpoint"),
    field("userinfo_endpoint", Endpoint, Endpoints).sets("userinfo_endpoint"),
    field("device_authorization_endpoint", Endpoint, Endpoints)
        .sets("device_authorization_endpoint"),
    field("pushed_authorization_request_endpoint", Endpoint, Endpoints)
        .sets("pushed_authorization_request_endpoint"),
    field("jwks_uri", Endpoint, Endpoints).sets("jwks_uri"),
    field("refresh_endpoint", Endpoint, Endpoints).says("Tokens are refreshed at %."),
    field("exchange_endpoint", Endpoint, Endpoints).says(
        "The first token is exchanged for a long-lived one at %, by a GET that has it in the URL.",
    ),
    field("id_token_issuer", Endpoint, Endpoints).says("The issuer of an id_token is %."),
    // The client.
    field("token_endpoint_auth_method", Choice(METHODS), Behaviour)
        .sets("token_endpoint_auth_method"),
    field("client_secret_assertion", Flag, Behaviour)
        .says("The client secret is a JWT signed with your key."),
    field("assertion_issuer", Text, Behaviour).says("The client's assertion is issued by %."),
    field("assertion_audience", Text, Behaviour).says("The client's assertion is for %."),
    field("client_secret_basic_encoding", Choice(&["raw"]), Behaviour)
        .sets("client_secret_basic_encoding")
        .says("It does not decode the credentials of a Basic header, so they go as they are."),
    field("secret_as_username", Flag, Behaviour)
        .says("The client secret is the user name of the Basic header, with no password."),
    // The authorization request and its answer.
    field("scope_separator", Choice(&[",", "+"]), Behaviour).says("Scopes are separated by \"%\"."),
    field(
        "pkce",
        Choice(&[
            "required",
            "supported",
            "unsupported",
            "unsupported with a secret",
        ]),
        Behaviour,
    )
    .says("PKCE is %."),
    field("code_challenge_encoding", Choice(&["hex"]), Behaviour)
        .says("The PKCE challenge is written as %, not as base64url."),
    field("response_type", Text, Behaviour).says("The response_type is %."),
    field("response_mode", Choice(&["query", "form_post"]), Behaviour).sets("response_mode"),
    field("authorization_parameters", Map, Behaviour).sets("authorization_parameters"),
    field("authorization_parameter_names", Map, Behaviour)
        .says("The authorization request calls $ %."),
    field("redirect_uri_sent", Text, Behaviour)
        .says("The redirect URI goes by the name % in requests."),
    field("authorization_fragment", Text, Behaviour).says("The authorization URL ends with #%."),
    field("offline_scope", Text, Behaviour).says("A refresh token takes the scope %."),
    field("offline_parameters", Map, Behaviour).says("A refresh token takes the parameter $=%."),
    field(
        "offline_prompt",
        Choice(&["none", "login", "consent", "select_account"]),
        Behaviour,
    )
    .says("A refresh token takes prompt=%."),
    field("callback_code_parameter", Text, Behaviour).says("The redirect calls the code %."),
    field("callback_parameters", List, Behaviour)
        .says("The redirect brings %, which is kept with the token response."),
    field("callback_server_parameter", Text, Behaviour)
        .says("The redirect names the server of the user's region in %."),
    field("callback_servers", List, Behaviour),
    field(
        "redirect_uris",
        Choice(&["loopback", "exact", "https"]),
        Behaviour,
    ),
    // The token request.
    field(
        "token_request_format",
        Choice(&["json", "query"]),
        Behaviour,
    )
    .says("The token request is written as %, not as a form."),
    field(
        "refresh_request_format",
        Choice(&["form", "json", "query"]),
        Behaviour,
    )
    .says("The refresh request is written as %."),
    field("token_parameters", Map, Behaviour).sets("token_parameters"),
    field("token_headers", Map, Behaviour).sets("token_headers"),
    field("token_parameter_names", Map, Behaviour).says("The token request calls $ %."),
    field("refresh_parameter_names", Map, Behaviour).says("The refresh request calls $ %."),
    field("refresh_parameters_omitted", List, Behaviour)
        .says("The refresh request goes without %."),
    field("grant_types", Map, Behaviour).says("The grant_type $ is called %."),
    field("refresh_sends_scope", Flag, Behaviour).says("A refresh names the scopes again."),
    field("refresh_sends_redirect_uri", Flag, Behaviour)
        .says("A refresh names the redirect URI again."),
    field("token_request_sends_state", Flag, Behaviour)
        .says("The state is repeated in the token request."),
    field("token_request_sends_callback_parameters", Flag, Behaviour)
        .says("Every token request repeats what is kept of the redirect."),
    field("exchange_parameters", Map, Behaviour),
    // Revocation and introspection.
    field("revocation_method", Choice(&["DELETE"]), Behaviour).says("Tokens are revoked by %."),
    field(
        "revocation_endpoint_auth_method",
        Choice(METHODS_ABOUT_TOKENS),
        Behaviour,
    )
    .says("The authentication method of a revocation is %."),
    field(
        "revocation_request_format",
        Choice(&["form", "json", "query", "none"]),
        Behaviour,
    )
    .says("The parameters of a revocation are written as %."),
    field("revocation_parameter_names", Map, Behaviour).says("A revocation calls $ %."),
    field(
        "revocation_token",
        Choice(&["access_token", "refresh_token"]),
        Behaviour,
    )
    .says("A revocation takes the % alone."),
    field(
        "introspection_endpoint_auth_method",
        Choice(METHODS_ABOUT_TOKENS),
        Behaviour,
    )
    .says("The authentication method of an introspection is %."),
    // The token response.
    field("response_wrapper", Text, Behaviour).says("The token response is wrapped in %."),
    field("response_fields", Map, Behaviour).says("The token response has $ at %."),
    field("response_scope_separator", Choice(&[","]), Behaviour)
        .says("The scopes granted are separated by commas."),
    field("success_field", Text, Behaviour),
    field("success_value", Text, Behaviour),
    field("error_codes", Map, Behaviour),
    field(
        "expiry_unit",
        Choice(&["milliseconds", "unix", "date"]),
        Behaviour,
    )
    .says("The expiry is told as % and not in seconds."),
    field("token_type", Text, Behaviour)
        .says("The token is of the type %, whatever the response calls it."),
    field("refresh_with_access_token", Flag, Behaviour).says(
        "There is no refresh token: the access token itself is refreshed, while it is valid.",
    ),
    field("refresh_extends_token", Flag, Behaviour)
        .says("A refresh prolongs the access token and brings no new one."),
    field("keeps_refresh_token", Flag, Behaviour)
        .says("The refresh token stays the same for as long as the authorization lasts."),
    field("id_token_omits_nonce", Flag, Behaviour)
        .says("An id_token comes without the nonce that was sent."),
    // Policy.
    field("default_lifetime_seconds", Number, Behaviour)
        .sets("renewal.default_lifetime_seconds")
        .says("No expiry is told; & are assumed."),
    field("early_seconds", Number, Behaviour)
        .sets("renewal.early_seconds")
        .says("A token is renewed in its last &."),
    field("refresh_token_lifetime_seconds", Number, Behaviour)
        .says("A refresh token that is not used for & expires."),
    field("authorization_lifetime_seconds", Number, Behaviour)
        .says("The user has to authorize again after &."),
    field("refresh_token_reuse_seconds", Number, Behaviour)
        .says("A refresh token that was replaced is still accepted for &."),
    // For people.
    field("registration_page", Page, Plain),
    field("documentation_page", Page, Plain),
    field("peculiarities", List, Behaviour).says("%"),
];

/// The tag of the field at a place.
pub fn tag(at: usize) -> u8 {
    FIRST_TAG + at as u8
}
