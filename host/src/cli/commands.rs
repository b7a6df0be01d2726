//! The commands that are one question to the library and one answer.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokenwell::{
    Connection, ConnectionState, Error, Grant, Host, RedirectUris, Severity, Status, StoreError,
    Token, TokenOptions, ViolationKind,
};
use tokenwell_core::config::SECRET_FIELDS;
use tokenwell_core::endpoint::lacks_port;

use super::document::{self, ConnectionName, ProfileName, Subject};
use super::failure::{Failure, Kind};
use super::redirect::{self, ANY_PORT, with_port};
use super::{Session, effective, examine, input, keys, output, parse, watch};

/// What to type to obtain the first token.
pub fn next_step(grant: &Grant, subject: &Subject) -> String {
    match grant {
        Grant::AuthorizationCode | Grant::DeviceCode => subject.command("authorize"),
        _ => subject.command("token"),
    }
}

/// A connection opened for one command.
struct Opened {
    subject: Subject,
    connection: Connection,
}

impl Opened {
    async fn new(session: &Session, name: &ConnectionName) -> Result<Self, Failure> {
        let host = session.host()?;
        let connection = session.open(&host, name).await?;
        let subject = session.subject(name);
        Ok(Self {
            subject: subject.with_grant(&connection.config().grant),
            connection,
        })
    }

    fn failure(&self, error: Error) -> Failure {
        Failure::of(error, Some(&self.subject))
    }

    /// The same of an endpoint beside the token endpoint.
    fn failure_at(&self, endpoint: &str, error: Error) -> Failure {
        let is_answer = matches!(
            &error,
            Error::ProtocolViolation(violation) if violation.kind == ViolationKind::Response
        );
        let failure = self.failure(error);
        if is_answer {
            return failure.mend(format!(
                "Look at `{endpoint}`: what is there does not answer as such an endpoint."
            ));
        }
        failure
    }

    /// The failure to give a token; where that is what is remembered of an
    /// earlier try, until when.
    async fn no_token(&self, error: Error) -> Failure {
        let failure = self.failure(error);
        if !matches!(failure.kind, Kind::Refused | Kind::Unavailable) {
            return failure;
        }
        let status = self.connection.status().await.ok();
        let pause = status.and_then(|status| status.next_retry_at);
        match pause.filter(|until| *until > output::now()) {
            None => failure,
            Some(until) => {
                let mend = failure.mend.clone().unwrap_or_default();
                let refresh = self.subject.command("refresh");
                if failure.retry_at.is_some() {
                    return failure.mend(format!("{mend} `{refresh}` tries now."));
                }
                let until = output::instant(until, output::now());
                failure.mend(format!(
                    "{mend} The server is not asked again before {until}; `{refresh}` asks now."
                ))
            }
        }
    }
}

/// Where a connection stands.
pub struct Standing {
    /// The connection, its grant known where its config can be read.
    pub subject: Subject,
    document: Value,
    /// What the library says of it.
    pub status: Status,
    /// What to type to obtain the first token, where there is none.
    next: Option<String>,
}

/// Where a connection stands, a config that cannot be read included.
///
/// # Errors
/// There is no such connection, or it cannot be looked at.
pub async fn standing(
    session: &Session,
    host: &Host,
    name: &ConnectionName,
) -> Result<Standing, Failure> {
    let nowhere = |state| Status {
        state,
        expires_at: None,
        refreshable: false,
        refresh_expires_at: None,
        scope: Vec::new(),
        authorized_at: None,
        last_renewal: None,
        next_retry_at: None,
        warnings: Vec::new(),
    };
    let layers = session.layers(name)?;
    let document = layers.document();
    let subject = session.subject(name);
    let connection = match parse(host, &subject, &document).await? {
        Ok(connection) => connection,
        Err(mut problems) => {
            layers.attribute(&mut problems);
            return Ok(Standing {
                subject,
                document,
                status: nowhere(ConnectionState::NotConfigured(problems)),
                next: None,
            });
        }
    };
    let grant = &connection.config().grant;
    let next = next_step(grant, &subject);
    let subject = subject.with_grant(grant);
    let status = connection
        .status()
        .await
        .map_err(|error| Failure::of(error, Some(&subject)))?;
    let next = (status.state == ConnectionState::NotAuthorized).then_some(next);
    Ok(Standing {
        subject,
        document,
        status,
        next,
    })
}

/// `list`.
pub async fn list(session: &Session) -> Result<u8, Failure> {
    let names = session.directory.names(session.profile.as_ref())?;
    if names.is_empty() && !session.json {
        output::note(&format!(
            "{} Create one with `{}`.\n",
            none_there(session),
            match &session.profile {
                Some(profile) => session
                    .directory
                    .command(&format!("--profile {profile} create NAME")),
                None => session.directory.command("create NAME"),
            }
        ));
        return Ok(0);
    }
    let host = session.host()?;
    let now = output::now();
    let mut rows = Vec::new();
    let mut table = output::Table::new(["NAME", "STATE", "SERVER", "EXPIRES"]);
    for name in &names {
        let full_name = session.subject(name).full_name().to_owned();
        // One connection in trouble must not hide the others.
        match standing(session, &host, name).await {
            Ok(Standing {
                document, status, ..
            }) => {
                let server = server_of(&document);
                rows.push(json!({
                    "name": full_name,
                    "state": output::state_name(&status.state),
                    "server": server,
                    "expires_at": status.expires_at,
                }));
                table.row([
                    full_name.into(),
                    output::state_cell(&status.state),
                    server.unwrap_or_else(|| "-".into()).into(),
                    status
                        .expires_at
                        .map_or_else(|| "-".into(), |at| output::instant(at, now))
                        .into(),
                ]);
            }
            Err(failure) => {
                rows.push(json!({"name": full_name, "state": "error", "error": failure.to_json()}));
                table.row([
                    full_name.into(),
                    output::trouble_cell(),
                    "-".to_owned().into(),
                    failure.message.into(),
                ]);
            }
        }
    }
    session.print(|| Value::Array(rows), || table.render())
}

/// What to say where nothing is to be listed.
fn none_there(session: &Session) -> String {
    let directory = session.directory.path().display();
    match &session.profile {
        Some(profile) => format!("No connection in {directory} has the profile {profile}."),
        None => format!("There are no connections in {directory}."),
    }
}

/// The provider, or the host of the server, from a config document.
fn server_of(document: &Value) -> Option<String> {
    let text = |field: &str| document.get(field).and_then(Value::as_str);
    if let Some(provider) = text("provider") {
        return Some(provider.to_owned());
    }
    let url = text("issuer").or_else(|| text("token_endpoint"))?;
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
    )
}

/// What `show` can be told.
#[derive(Args)]
pub struct ShowArgs {
    /// The connection
    name: ConnectionName,
    /// Show every field as it takes effect, and where it comes from; sends nothing
    ///
    /// --set goes before TOKENWELL_SET_… in the environment, that before the profile, that before the file, that before the
    /// provider, that before the server's metadata, that before the default.
    #[arg(long)]
    effective: bool,
    /// The same, asking the server for its metadata
    #[arg(long, conflicts_with = "effective")]
    resolved: bool,
}

/// `show`.
pub async fn show(session: &Session, args: ShowArgs) -> Result<u8, Failure> {
    if args.resolved || args.effective {
        return effective::show(session, &args.name, args.resolved).await;
    }
    let mut document = session.document(&args.name)?;
    document::redact(&mut document);
    if session.json {
        output::print_json(&document)
    } else {
        output::print(&format!("{document:#}\n"))
    }
    .map(|()| 0)
}

/// `check`.
pub async fn check(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let layers = session.layers(name)?;
    let host = session.host()?;
    let subject = session.subject(name);
    let (_, mut problems) = examine(session, &host, &subject, &layers.document()).await?;
    layers.attribute(&mut problems);
    let works = problems
        .iter()
        .all(|problem| problem.severity == Severity::Warning);
    session.print(
        || json!({"name": subject.full_name(), "ok": works, "problems": output::problems_json(&problems)}),
        || {
            let verdict = match (works, problems.is_empty()) {
                (true, true) => "nothing is wrong with the config",
                (true, false) => "the config works, but",
                (false, _) => "the config cannot work",
            };
            format!("{}: {verdict}\n{}", output::bold(subject.full_name()), output::problems_text(&problems))
        },
    )?;
    Ok(if works {
        0
    } else {
        Kind::NotConfigured.exit_code()
    })
}

/// What `status` can be told.
#[derive(Args)]
pub struct StatusArgs {
    /// The connections; all when left out
    #[arg(value_name = "NAME")]
    names: Vec<ConnectionName>,
    /// Keep looking: a table that follows the time; a line for each change where the output is no terminal, or with --json
    #[arg(long)]
    watch: bool,
    /// Look so often
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..),
        requires = "watch"
    )]
    interval: u32,
}

/// `status`.
pub async fn status(session: &Session, args: StatusArgs) -> Result<u8, Failure> {
    if args.watch {
        let interval = Duration::from_secs(args.interval.into());
        return watch::run(session, &args.names, interval).await;
    }
    let one = args.names.len() == 1;
    let are_named = !args.names.is_empty();
    let names = match args.names {
        names if names.is_empty() => session.directory.names(session.profile.as_ref())?,
        names => names,
    };
    let host = session.host()?;
    let now = output::now();
    let mut values = Vec::new();
    let mut text = String::new();
    let mut code = 0;
    for name in &names {
        let subject = session.subject(name);
        match standing(session, &host, name).await {
            Ok(Standing {
                subject,
                status,
                next,
                ..
            }) => {
                values.push(output::status_json(&subject, &status));
                text.push_str(&output::status_text(&subject, &status, now));
                if let Some(next) = next {
                    text.push_str(&output::field("next", &next));
                }
            }
            Err(failure) if one => return Err(failure),
            Err(failure) => {
                // Of those that were asked for; else it is what there is to tell.
                if are_named && code == 0 {
                    code = failure.kind.exit_code();
                }
                values.push(json!({"name": subject.full_name(), "state": "error", "error": failure.to_json()}));
                text.push_str(&format!(
                    "{}: {}",
                    output::bold(subject.full_name()),
                    failure.to_text()
                ));
            }
        }
    }
    if names.is_empty() && !session.json {
        output::note(&format!("{}\n", none_there(session)));
    }
    session
        .print(
            || {
                if one {
                    values.pop().unwrap_or_default()
                } else {
                    Value::Array(values)
                }
            },
            || text,
        )
        .map(|_| code)
}

/// What `token` can be told.
#[derive(Args)]
#[command(after_help = "\
Alone it prints nothing but the access token, so that it can be used in place. The token is renewed first where it has
expired or is about to.

Examples:
  tokenwell token shop
  curl -H \"$(tokenwell token shop --header)\" https://api.example.com/orders
  tokenwell token shop --json --min-validity 600
  printf %s \"$REFUSED\" | tokenwell token shop --rejected -")]
pub struct TokenArgs {
    /// The connection
    name: ConnectionName,
    /// Print it as a header: `Authorization: Bearer …`
    #[arg(long, conflicts_with_all = ["json", "response"])]
    header: bool,
    /// Print the token endpoint's last response, whole
    #[arg(long, conflicts_with = "json")]
    response: bool,
    /// Renew it first if it is valid for less than so many seconds
    #[arg(long, value_name = "SECONDS")]
    min_validity: Option<u32>,
    /// A token that a resource server has refused: renews, unless it has been replaced; - reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    rejected: Option<String>,
}

/// `token`.
pub async fn token(session: &Session, args: TokenArgs) -> Result<u8, Failure> {
    let rejected = match args.rejected.as_deref() {
        Some("-") => Some(input::line("token")?.trim().to_owned()),
        Some(token) => Some(token.to_owned()),
        None => None,
    };
    let opened = Opened::new(session, &args.name).await?;
    let options = TokenOptions {
        min_validity_seconds: args.min_validity,
        rejected,
    };
    let token = match opened.connection.token(options).await {
        Ok(token) => token,
        Err(error) => return Err(opened.no_token(error).await),
    };
    if let Some(wanted) = args.min_validity
        && let Some(at) = token.expires_at
        && at < output::now().saturating_add(wanted.into())
        && !session.json
    {
        output::note(&format!(
            "The token is valid until {}, which is less than was asked for: more than nine tenths of a lifetime \
             cannot be had, and no renewal while the server is out of reach, which `{}` tells.\n",
            output::instant(at, output::now()),
            opened.subject.command("status")
        ));
    }
    if args.response {
        let response = opened
            .connection
            .response_json()
            .await
            .map_err(|error| opened.failure(error))?;
        return output::print(&format!("{response}\n")).map(|()| 0);
    }
    if args.header {
        return output::print(&format!("{}\n", header(&token, &opened.subject)?)).map(|()| 0);
    }
    session.print(
        || output::token_json(&token),
        || format!("{}\n", token.access_token),
    )
}

/// The header that carries a token from any process (RFC 6750 section 2.1).
fn header(token: &Token, subject: &Subject) -> Result<String, Failure> {
    if token.token_type.eq_ignore_ascii_case("bearer") {
        return Ok(format!("Authorization: Bearer {}", token.access_token));
    }
    Err(Failure::unsupported(format!(
        "a token of the type {} needs more than a header that can be copied",
        token.token_type
    ))
    .mend(format!(
        "Send the request with `{} URL`.",
        subject.command("request")
    )))
}

/// `refresh`.
pub async fn refresh(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let opened = Opened::new(session, name).await?;
    let token = opened
        .connection
        .refresh()
        .await
        .map_err(|error| opened.failure(error))?;
    session.print(
        || {
            json!({
                "name": opened.subject.full_name(),
                "expires_at": token.expires_at,
                "scope": token.scope.join(" "),
                "refreshable": token.refreshable,
            })
        },
        || output::token_text(&opened.subject, &token, output::now()),
    )
}

/// What `clear` takes.
#[derive(Args)]
pub struct ClearArgs {
    /// The connection
    name: ConnectionName,
    /// Forget the certificates that were imported (`tls: trust`), in place of the tokens
    #[arg(long)]
    trust: bool,
}

/// `clear`.
pub async fn clear(session: &Session, args: ClearArgs) -> Result<u8, Failure> {
    let opened = Opened::new(session, &args.name).await?;
    let connection = &opened.connection;
    let cleared = if args.trust {
        connection.clear_trust().await
    } else {
        connection.clear().await
    };
    cleared.map_err(|error| opened.failure(error))?;
    let full_name = opened.subject.full_name();
    session.print(
        || json!({"name": full_name, "cleared": true}),
        || {
            let what = if args.trust {
                "the imported certificates are forgotten, the tokens stay"
            } else {
                "the tokens are forgotten, the config stays"
            };
            format!("{}: {what}\n", output::bold(full_name))
        },
    )
}

/// `revoke`.
pub async fn revoke(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let opened = Opened::new(session, name).await?;
    opened
        .connection
        .revoke()
        .await
        .map_err(|error| opened.failure_at("revocation_endpoint", error))?;
    let full_name = opened.subject.full_name();
    session.print(
        || json!({"name": full_name, "revoked": true}),
        || {
            format!(
                "{}: the tokens are revoked at the server and forgotten\n",
                output::bold(full_name)
            )
        },
    )
}

/// `introspect`.
pub async fn introspect(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let opened = Opened::new(session, name).await?;
    let text = opened
        .connection
        .introspect()
        .await
        .map_err(|error| opened.failure_at("introspection_endpoint", error))?;
    output::print(&format!("{text}\n")).map(|()| 0)
}

/// `userinfo`.
pub async fn userinfo(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let opened = Opened::new(session, name).await?;
    let text = opened
        .connection
        .userinfo()
        .await
        .map_err(|error| opened.failure_at("userinfo_endpoint", error))?;
    output::print(&format!("{text}\n")).map(|()| 0)
}

/// `history`.
pub async fn history(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let opened = Opened::new(session, name).await?;
    let events = opened
        .connection
        .history()
        .await
        .map_err(|error| opened.failure(error))?;
    if events.is_empty() && !session.json {
        output::note("Nothing has happened yet.\n");
        return Ok(0);
    }
    let now = output::now();
    session.print(
        || events.iter().map(output::event_json).collect(),
        || {
            let mut table = output::Table::new(["WHEN", "WHAT", "HOW"]);
            for event in &events {
                table.row([
                    output::instant(event.at, now).into(),
                    event.kind.clone().into(),
                    event.message.clone().into(),
                ]);
            }
            table.render()
        },
    )
}

/// `callback-url`.
pub async fn callback_url(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let document = session.document(name)?;
    let configured = document.get("redirect_uri").and_then(Value::as_str);
    let host = session.host()?;
    let accepted = redirect::accepted(&host, &document).await?;
    let (uri, explanation) = match (configured, accepted) {
        (Some(uri), _) if !lacks_port(uri) => (
            uri.to_owned(),
            "This is the config's redirect_uri: register it at the server exactly as it is.\n"
                .to_owned(),
        ),
        (None, Some(RedirectUris::Https)) => {
            return Err(Failure::not_configured(
                "the provider accepts https redirect URIs only, and the config names none",
            )
            .mend("Set `redirect_uri` to an https URL, and register the same."));
        }
        (uri, Some(RedirectUris::Exact)) => (
            with_port(uri.unwrap_or(ANY_PORT)),
            "The provider accepts a redirect URI only as it is registered, port included. Register this, say, and set \
             the same as `redirect_uri` in the config.\n"
                .to_owned(),
        ),
        (Some(uri), _) => (
            uri.to_owned(),
            format!(
                "This is the config's redirect_uri. It names no port, so that any free one is put in: the server has to \
                 accept every port (RFC 8252 section 7.3).\nA server that wants a port: register {}, say, and set the \
                 same as `redirect_uri` in the config.\n",
                output::printable(&with_port(uri))
            ),
        ),
        (None, _) => (
            ANY_PORT.to_owned(),
            format!(
                "Register this at the server. The port is left out because any free one is used: for the loopback \
                 address a server has to accept every port (RFC 8252 section 7.3).\nA server that wants a port, or \
                 `localhost`: register {}, say, and set the same as `redirect_uri` in the config.\n",
                with_port(ANY_PORT)
            ),
        ),
    };
    session.print(
        || json!({"redirect_uri": uri, "explanation": explanation.trim()}),
        || format!("{}\n", output::printable(&uri)),
    )?;
    if !session.json {
        output::note(&output::dim(&explanation));
    }
    Ok(0)
}

/// What `delete` can be told.
#[derive(Args)]
#[command(after_help = "\
The server is not told: run `tokenwell revoke NAME` first if the tokens shall be worthless. With --profile only what
belongs to that profile is deleted.

Examples:
  tokenwell delete shop
  tokenwell delete shop --yes
  tokenwell --profile dev delete shop")]
pub struct DeleteArgs {
    /// The connection
    name: ConnectionName,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `delete`.
pub async fn delete(session: &Session, args: DeleteArgs) -> Result<u8, Failure> {
    let profiles = match &session.profile {
        Some(profile) => vec![Some(profile.clone())],
        None => {
            let all = session.directory.profiles(&args.name)?;
            all.into_iter().map(Some).chain([None]).collect()
        }
    };
    let subject = session.subject(&args.name);
    let config = session.directory.file(&args.name, session.profile.as_ref());
    if !config.exists() {
        return Err(Failure::not_configured(format!(
            "there is no connection {}",
            subject.full_name()
        ))
        .mend(session.directory.shows_all()));
    }
    if !args.yes && !confirmed(&subject, profiles.len())? {
        output::note("Nothing was deleted.\n");
        return Ok(0);
    }
    let used = sealed_for_others(session, &args.name, &profiles)?;
    for profile in &profiles {
        let full_name = document::full_name(&args.name, profile.as_ref());
        forget(session, &format!("{full_name}.tokens")).await?;
        forget(session, &format!("{full_name}.trust")).await?;
        // Those that `create --seal` made for it.
        for field in SECRET_FIELDS {
            let secret = keys::sealed_name(&full_name, field);
            if used.contains(&secret) {
                continue;
            }
            let forgotten = session.secrets.forget_secret(&secret).await;
            forgotten.map_err(Failure::of_secret)?;
        }
        let path = session.directory.file(&args.name, profile.as_ref());
        session.directory.remove(&path)?;
    }
    session.print(
        || json!({"name": subject.full_name(), "deleted": true}),
        || format!("{}: deleted\n", output::bold(subject.full_name())),
    )
}

/// The sealed secrets that other configs than those of a connection's profiles
/// refer to. A config that cannot be read refers to none.
fn sealed_for_others(
    session: &Session,
    name: &ConnectionName,
    profiles: &[Option<ProfileName>],
) -> Result<Vec<String>, Failure> {
    let mut used = Vec::new();
    for other in session.directory.names(None)? {
        let all = session.directory.profiles(&other)?.into_iter().map(Some);
        for profile in all.chain([None]) {
            if other == *name && profiles.contains(&profile) {
                continue;
            }
            if let Ok(document) = session.directory.load(&other, profile.as_ref()) {
                let secrets = keys::sealed_secrets(&document).into_iter();
                used.extend(secrets.map(str::to_owned));
            }
        }
    }
    Ok(used)
}

/// Deletes a record, readable or not.
async fn forget(session: &Session, key: &str) -> Result<(), Failure> {
    match (session.store.forget(key).await, &session.files) {
        (Ok(_), _) => Ok(()),
        // Whatever is there instead of a record goes too.
        (Err(StoreError::Corrupt(_)), Some(files)) => {
            session.directory.remove(&files.join(key)).map(|_| ())
        }
        (Err(error), _) => Err(Failure::of_store(error)),
    }
}

fn confirmed(subject: &Subject, parts: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(
            Failure::usage("there is no terminal to ask on whether to delete").mend("Add --yes."),
        );
    }
    let profiles = if parts > 1 {
        " with all its profiles"
    } else {
        ""
    };
    output::note(&format!(
        "Delete {}{profiles}, config and tokens? [y/N] ",
        output::bold(subject.full_name())
    ));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(token_type: &str) -> Token {
        Token {
            access_token: "at".into(),
            token_type: token_type.into(),
            expires_at: None,
            fresh_until: None,
            scope: vec![],
            refreshable: false,
        }
    }

    fn shop() -> Subject {
        Subject::new(&"shop".parse().unwrap(), None, "")
    }

    #[test]
    fn a_bearer_header_is_written_as_rfc_6750_has_it_however_the_server_spells_it() {
        for spelling in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(
                header(&bearer(spelling), &shop()).unwrap(),
                "Authorization: Bearer at"
            );
        }
    }

    #[test]
    fn a_token_bound_to_a_key_is_not_printed_as_a_header() {
        assert!(header(&bearer("DPoP"), &shop()).is_err());
    }

    #[test]
    fn the_server_of_a_config_is_its_provider_or_the_host_of_its_issuer() {
        for (document, server) in [
            (
                json!({"provider": "google", "issuer": "https://x.example"}),
                Some("google"),
            ),
            (
                json!({"issuer": "https://x.example/tenant"}),
                Some("x.example"),
            ),
            (
                json!({"token_endpoint": "http://127.0.0.1:9400/token"}),
                Some("127.0.0.1:9400"),
            ),
            (json!({"issuer": "not a url"}), None),
            (json!({}), None),
        ] {
            assert_eq!(server_of(&document).as_deref(), server, "{document}");
        }
    }
}
