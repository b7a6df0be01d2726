//! What a command says when it does not succeed, and the exit code it leaves
//! with: the one place that maps errors to either.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenwell::{
    Error, Problem, SecretError, ServerError, StorageFailureKind, StoreError, Unavailability,
    ViolationKind,
};

use super::document::Subject;
use super::output;

/// What kind of failure it is, as `--json` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something is wrong with Tokenwell itself or its component.
    Internal,
    /// This version cannot do it.
    Unsupported,
    /// The command was typed wrong, or asks for what makes no sense.
    Usage,
    /// The config is missing, incomplete or wrong.
    NotConfigured,
    /// No token has been obtained yet.
    NotAuthorized,
    /// The user has to authorize again.
    ReauthorizationRequired,
    /// The authorization endpoint said no.
    Denied,
    /// Another endpoint of the authorization server said no.
    Refused,
    /// A response broke the protocol.
    ProtocolViolation,
    /// A resource answered 400 or above, and `--fail` was given.
    HttpStatus,
    /// It may work later.
    Unavailable,
    /// Files or the records in them cannot be read or written.
    Storage,
    /// The host's policy says no.
    Forbidden,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The system wants the process to end.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Terminated,
    /// Whoever read standard output has gone.
    ClosedPipe,
}

impl Kind {
    /// The exit code, as the help of the command line lists them; beyond
    /// them what shells expect of a command that a signal ended.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Internal | Self::Unsupported => 1,
            Self::Usage => 2,
            Self::NotConfigured => 3,
            Self::NotAuthorized | Self::ReauthorizationRequired => 4,
            Self::Denied | Self::Refused | Self::ProtocolViolation | Self::HttpStatus => 5,
            Self::Unavailable => 6,
            Self::Storage => 7,
            Self::Forbidden => 8,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Unsupported => "unsupported",
            Self::Usage => "usage",
            Self::NotConfigured => "not_configured",
            Self::NotAuthorized => "not_authorized",
            Self::ReauthorizationRequired => "reauthorization_required",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::ProtocolViolation => "protocol_violation",
            Self::HttpStatus => "http_status",
            Self::Unavailable => "unavailable",
            Self::Storage => "storage",
            Self::Forbidden => "forbidden",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
            Self::ClosedPipe => "closed_pipe",
        }
    }
}

/// A failure: what happened and why, and what to do about it. Neither a secret
/// nor a token is in any of it.
#[derive(Debug)]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What happened, and why, without a full stop.
    pub message: String,
    /// What is wrong with the config.
    pub problems: Vec<Problem>,
    /// What the server said.
    pub server: Option<Box<ServerError>>,
    /// When it may work, in Unix seconds.
    pub retry_at: Option<u64>,
    /// What to do.
    pub mend: Option<String>,
}

impl Failure {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into().trim_end_matches('.').to_owned();
        Self {
            kind,
            message,
            problems: Vec::new(),
            server: None,
            retry_at: None,
            mend: None,
        }
    }

    /// The command asks for what makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// There is no usable config.
    pub fn not_configured(message: impl Into<String>) -> Self {
        Self::new(Kind::NotConfigured, message)
    }

    /// A failure of this program or of what it is built on.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// What cannot be done.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// A resource's answer that `--fail` makes a failure of.
    pub fn http_status(status: http::StatusCode) -> Self {
        Self::new(Kind::HttpStatus, format!("the resource answered {status}"))
    }

    /// The user pressed Ctrl-C.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// A signal ended the command; what became of what was under way.
    pub fn ended(by: Kind, what: &str) -> Self {
        Self::new(by, format!("{}: {what}", by.name()))
    }

    /// A file that cannot be handled.
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::new(Kind::Storage, format!("{what} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                failure.mend("Look at its permissions, and at those of its directory.")
            }
            _ => failure,
        }
    }

    /// Standard output that cannot be written.
    pub fn standard_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::ClosedPipe, "nobody reads the output"),
            _ => Self::new(
                Kind::Storage,
                format!("cannot write to standard output: {error}"),
            ),
        }
    }

    /// What the library said of a connection, or of none in particular.
    pub fn of(error: Error, subject: Option<&Subject>) -> Self {
        let command = |verb: &str| match subject {
            Some(subject) => format!("`{}`", subject.command(verb)),
            None => format!("`tokenwell {verb} NAME`"),
        };
        let anew = match subject {
            Some(subject) => subject.anew(),
            None => format!("Run {}.", command("authorize")),
        };
        let subject = subject.map_or("the connection", Subject::full_name);
        let message = error.to_string();
        match error {
            Error::NotConfigured(problems) => {
                Self::new(Kind::NotConfigured, format!("{subject} is not configured"))
                    .with_problems(problems)
                    .mend("Mend the above.")
            }
            Error::NotAuthorized(reason) => Self::new(
                Kind::NotAuthorized,
                format!("{subject} is not authorized: {reason}"),
            )
            .mend(anew),
            Error::ReauthorizationRequired(required) => {
                let message = format!("{subject} has to be authorized again: {}", required.reason);
                Self::new(Kind::ReauthorizationRequired, message)
                    .said_by(required.error)
                    .mend(anew)
            }
            Error::Denied(said) => {
                let mend = denied_mend(&said, &command("authorize"));
                Self::new(Kind::Denied, message)
                    .said_by(Some(said))
                    .mend(mend)
            }
            Error::Refused(said) => {
                let mend = refused_mend(&said, &anew);
                Self::new(Kind::Refused, message)
                    .said_by(Some(said))
                    .mend(mend)
            }
            Error::Unavailable(failure) => Self {
                retry_at: failure.retry_at,
                ..Self::new(Kind::Unavailable, message).mend(unavailable_mend(&failure))
            },
            Error::ProtocolViolation(violation) => Self::new(Kind::ProtocolViolation, message)
                .mend(violation_mend(violation.kind, &command("authorize"))),
            Error::Storage(failure) => {
                Self::new(Kind::Storage, message).mend(storage_mend(failure.kind, subject))
            }
            Error::Forbidden(_) => Self::new(Kind::Forbidden, message)
                .mend("Change the config, or the policy of the host."),
            Error::Unsupported(_) => Self::new(Kind::Unsupported, message),
            // `Internal`, and whatever later versions of the library add.
            other => Self::new(Kind::Internal, with_causes(&other))
                .mend("This should not happen: please report it."),
        }
    }

    /// What a store said.
    pub fn of_store(error: StoreError) -> Self {
        match error {
            StoreError::Denied(why) => Self::new(Kind::Forbidden, why),
            StoreError::Unavailable(what) | StoreError::Corrupt(what) => {
                Self::new(Kind::Storage, what)
            }
        }
    }

    /// What was said of keys and sealed secrets.
    pub fn of_secret(error: SecretError) -> Self {
        match error {
            SecretError::NotFound(what) | SecretError::Unavailable(what) => {
                Self::new(Kind::Storage, what)
            }
            SecretError::Denied(why) => Self::new(Kind::Forbidden, why),
            SecretError::Unsupported(what) => Self::new(Kind::Unsupported, what),
        }
    }

    /// Adds what to do about it.
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Adds what the server said.
    fn said_by(mut self, server: Option<ServerError>) -> Self {
        self.server = server.map(Box::new);
        self
    }

    /// Adds what is wrong with the config.
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.problems = problems;
        self
    }

    /// The value of `error` in JSON; what does not apply is left out.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("kind".into(), self.kind.name().into());
        object.insert("message".into(), self.message.clone().into());
        if !self.problems.is_empty() {
            object.insert("problems".into(), output::problems_json(&self.problems));
        }
        if let Some(said) = &self.server {
            object.insert("code".into(), said.code.clone().into());
            let optional = [
                ("description", said.description.clone().map(Value::from)),
                ("http_status", said.http_status.map(Value::from)),
            ];
            object.extend(
                optional
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value?))),
            );
        }
        if let Some(at) = self.retry_at {
            object.insert("retry_at".into(), at.into());
        }
        if let Some(mend) = &self.mend {
            object.insert("mend".into(), mend.clone().into());
        }
        Value::Object(object)
    }

    /// The same for a reader.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} {}\n",
            output::bad("error:"),
            output::printable(&self.message)
        );
        text.push_str(&output::problems_text(&self.problems));
        if let Some(mend) = &self.mend {
            text.push_str(&format!("  {}\n", output::printable(mend)));
        }
        text
    }

    /// Says it on standard error.
    pub fn report(&self, as_json: bool) {
        match (self.kind, as_json) {
            (Kind::ClosedPipe, _) => {}
            (_, true) => output::note(&format!("{}\n", json!({ "error": self.to_json() }))),
            (_, false) => output::note(&self.to_text()),
        }
    }
}

/// An error with what caused it, for those whose text tells the first cause
/// itself.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source().and_then(std::error::Error::source);
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    message
}

fn denied_mend(said: &ServerError, authorize: &str) -> String {
    match said.code.as_str() {
        "access_denied" => format!("Run {authorize} again and give consent."),
        "login_required"
        | "consent_required"
        | "interaction_required"
        | "account_selection_required" => {
            format!(
                "The user has to be asked: take `none` out of `prompt` and run {authorize} again."
            )
        }
        "invalid_scope" => "Ask for scopes that the server knows: change `scope`.".into(),
        "unauthorized_client" => "Allow the client this grant at the authorization server.".into(),
        "temporarily_unavailable" | "server_error" => format!("Run {authorize} again later."),
        _ => format!("Look at the config, then run {authorize} again."),
    }
}

/// What to do about an outage, which may be a mistake in the config.
fn unavailable_mend(failure: &Unavailability) -> String {
    let cause = &failure.cause;
    let mut is_missing = [
        "answered with the status 404",
        "answered with the status 405",
    ]
    .iter();
    let mistake = if is_missing.any(|words| cause.contains(words)) {
        if cause.contains("the token endpoint") {
            Some("There seems to be no token endpoint: look at `token_endpoint`.")
        } else {
            Some("There seems to be no such endpoint: look at its URL.")
        }
    } else if cause.contains("certificate is not trusted") {
        Some(
            "Where its authority is unknown here, name that with the environment variable SSL_CERT_FILE; where the \
             certificate is right all the same, set `tls` to trust.",
        )
    } else {
        None
    };
    let due = failure.retry_at.map(|at| {
        format!(
            "The next try is due {}.",
            output::instant(at, output::now())
        )
    });
    match (mistake, due) {
        (Some(mistake), Some(due)) => format!("{mistake} {due}"),
        (Some(mistake), None) => mistake.to_owned(),
        (None, Some(due)) => due,
        (None, None) => "Try again; if it stays so, look at the address and the network.".into(),
    }
}

fn refused_mend(said: &ServerError, anew: &str) -> String {
    match said.code.as_str() {
        "invalid_client" => {
            "Look at `client_id`, `client_secret` and `token_endpoint_auth_method`: the server does not accept the client.".into()
        }
        "invalid_grant" => anew.to_owned(),
        "invalid_scope" => "Ask for scopes that the server knows: change `scope`.".into(),
        "invalid_target" => "Name a resource that the server knows: change `resource` or `audience`.".into(),
        "unauthorized_client" | "unsupported_grant_type" => {
            "Change `grant_type`, or allow the client this grant at the authorization server.".into()
        }
        _ => "Look at the config against the server's documentation.".into(),
    }
}

fn violation_mend(kind: ViolationKind, authorize: &str) -> String {
    match kind {
        ViolationKind::State | ViolationKind::Redirect | ViolationKind::Nonce => {
            format!(
                "Begin anew with {authorize}, and take the URL that your browser ends on, whole."
            )
        }
        ViolationKind::Issuer => {
            "Do not go on: the answer came from another server than was asked. Look at `issuer`."
                .into()
        }
        ViolationKind::Response => {
            "Look at `token_endpoint`: what is there does not answer as a token endpoint.".into()
        }
        ViolationKind::Metadata => {
            "Look at `issuer`: it must be exactly the one in the server's metadata.".into()
        }
        ViolationKind::IdToken => {
            "Do not trust the answer. Look at `issuer` and `client_id`.".into()
        }
    }
}

fn storage_mend(kind: StorageFailureKind, name: &str) -> String {
    match kind {
        StorageFailureKind::Unavailable => {
            "Look at the store: whether the directory can be written and has space, or the database answers.".into()
        }
        StorageFailureKind::WrongKey => {
            "Give the right master password (TOKENWELL_PASSWORD, --password-file), or bring back the key they were sealed \
             with. Where it is lost, so is what it sealed: move tokenwell.keys, *.tokens and *.secret away, and authorize \
             again."
                .into()
        }
        StorageFailureKind::Corrupt => {
            format!("Restore {name}.tokens from a copy; or remove it and authorize again.")
        }
        StorageFailureKind::NewerVersion => {
            "Use the version of Tokenwell that wrote them, or a later one.".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenwell::{
        Grant, Reauthorization, Secret, Severity, StorageFailure, Unavailability, Violation,
    };

    fn said(code: &str) -> ServerError {
        ServerError {
            code: code.into(),
            description: Some("no such client".into()),
            http_status: Some(401),
        }
    }

    fn shop() -> Subject {
        Subject::new(&"shop".parse().unwrap(), None, "")
    }

    fn problem(field: &str) -> Problem {
        Problem {
            field: field.into(),
            severity: Severity::Error,
            message: "is missing".into(),
            mend: "Give it".into(),
        }
    }

    #[test]
    fn every_error_of_the_library_has_the_exit_code_of_the_design() {
        for (error, name, code) in [
            (
                Error::NotConfigured(vec![problem("client_id")]),
                "not_configured",
                3,
            ),
            (Error::NotAuthorized("no token".into()), "not_authorized", 4),
            (
                Error::ReauthorizationRequired(Reauthorization {
                    reason: "expired".into(),
                    error: None,
                }),
                "reauthorization_required",
                4,
            ),
            (Error::Denied(said("access_denied")), "denied", 5),
            (Error::Refused(said("invalid_client")), "refused", 5),
            (
                Error::ProtocolViolation(Violation {
                    kind: ViolationKind::State,
                    message: "unknown state".into(),
                }),
                "protocol_violation",
                5,
            ),
            (
                Error::Unavailable(Unavailability {
                    cause: "timeout".into(),
                    retry_at: Some(7),
                }),
                "unavailable",
                6,
            ),
            (
                Error::Storage(StorageFailure {
                    kind: StorageFailureKind::WrongKey,
                    message: "no key".into(),
                }),
                "storage",
                7,
            ),
            (Error::Forbidden("tls off".into()), "forbidden", 8),
            (Error::Unsupported("dpop".into()), "unsupported", 1),
        ] {
            let failure = Failure::of(error, Some(&shop()));
            assert_eq!(
                (failure.kind.name(), failure.kind.exit_code()),
                (name, code)
            );
            assert_eq!(failure.to_json()["kind"], name);
        }
    }

    #[test]
    fn the_failures_of_the_command_line_itself_have_their_exit_codes() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        for (failure, code) in [
            (Failure::usage("x"), 2),
            (Failure::not_configured("x"), 3),
            (Failure::internal("x"), 1),
            (Failure::unsupported("x"), 1),
            (Failure::http_status(http::StatusCode::NOT_FOUND), 5),
            (Failure::file("cannot read", Path::new("x"), &full), 7),
            (Failure::standard_output(&full), 7),
            (Failure::standard_output(&broken), 0),
            (Failure::interrupted("x"), 130),
            (Failure::ended(Kind::Terminated, "x"), 143),
        ] {
            assert_eq!(failure.kind.exit_code(), code, "{failure:?}");
        }
    }

    #[test]
    fn as_json_a_refusal_tells_what_the_server_said() {
        let failure = Failure::of(Error::Refused(said("invalid_client")), Some(&shop()));
        assert_eq!(
            failure.to_json(),
            json!({
                "kind": "refused",
                "message": "the server refused: invalid_client (no such client), HTTP 401",
                "code": "invalid_client",
                "description": "no such client",
                "http_status": 401,
                "mend": "Look at `client_id`, `client_secret` and `token_endpoint_auth_method`: the server does not accept the client.",
            })
        );
    }

    #[test]
    fn as_json_a_missing_config_lists_its_problems() {
        let failure = Failure::of(
            Error::NotConfigured(vec![problem("client_id"), problem("issuer")]),
            None,
        );
        assert_eq!(
            failure.to_json()["problems"],
            json!([
                {"field": "client_id", "severity": "error", "message": "is missing", "mend": "Give it"},
                {"field": "issuer", "severity": "error", "message": "is missing", "mend": "Give it"},
            ])
        );
    }

    #[test]
    fn as_json_an_outage_tells_when_to_try_again() {
        let failure = Failure::of(
            Error::Unavailable(Unavailability {
                cause: "HTTP 503".into(),
                retry_at: Some(7),
            }),
            None,
        );
        assert_eq!(failure.to_json()["retry_at"], 7);
    }

    #[test]
    fn as_text_what_happened_comes_first_and_what_to_do_last() {
        let text = Failure::of(
            Error::NotAuthorized("no token has been obtained yet".into()),
            Some(&shop()),
        )
        .to_text();
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "error: shop is not authorized: no token has been obtained yet\n  Run `tokenwell authorize shop`.\n"
        );
    }

    #[test]
    fn what_to_do_names_the_profile_and_the_directory() {
        let subject = Subject::new(
            &"shop".parse().unwrap(),
            Some(&"dev".parse().unwrap()),
            "--dir here ",
        );
        let failure = Failure::of(Error::NotAuthorized("no token".into()), Some(&subject));
        assert_eq!(failure.message, "shop.dev is not authorized: no token");
        assert_eq!(
            failure.mend.as_deref(),
            Some("Run `tokenwell --dir here --profile dev authorize shop`.")
        );
    }

    #[test]
    fn whoever_has_no_user_to_ask_is_told_what_to_change_in_the_config() {
        let mend = |grant: Grant| {
            let refused = Error::Refused(said("invalid_grant"));
            let failure = Failure::of(refused, Some(&shop().with_grant(&grant)));
            failure.mend.unwrap()
        };
        assert_eq!(
            mend(Grant::AuthorizationCode),
            "Run `tokenwell authorize shop`."
        );
        let started_from = Secret::Literal("rt".into());
        assert_eq!(
            mend(Grant::RefreshToken(Some(started_from))),
            "Put a new `refresh_token` into the config, then run `tokenwell token shop`."
        );
        assert_eq!(
            mend(Grant::ClientCredentials),
            "Run `tokenwell refresh shop`; where that fails too, look at the config."
        );
    }

    #[test]
    fn an_outage_that_is_a_mistake_says_which() {
        let mend = |cause: &str, retry_at: Option<u64>| {
            let cause = cause.into();
            let outage = Error::Unavailable(Unavailability { cause, retry_at });
            Failure::of(outage, Some(&shop())).mend.unwrap()
        };
        let missing = mend("the token endpoint answered with the status 404", Some(7));
        assert!(missing.contains("`token_endpoint`"), "{missing}");
        assert!(missing.contains("The next try is due"), "{missing}");
        let other = mend(
            "https://as.example/about answered with the status 405",
            None,
        );
        assert!(!other.contains("token_endpoint"), "{other}");
        let unknown = mend(
            "as.example: the server's certificate is not trusted: it has expired",
            None,
        );
        assert!(unknown.contains("SSL_CERT_FILE"), "{unknown}");
        let down = mend("as.example: the connection was refused", None);
        assert!(down.starts_with("Try again"), "{down}");
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        let mut evil = said("invalid_client");
        evil.description = Some("\u{1b}]0;owned\u{7}\r\nerror: fake".into());
        let text = Failure::of(Error::Refused(evil), None).to_text();
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
    }
}
