//! The commands that are one question to the library and one answer.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokenwell::{
    Connection, ConnectionState, Error, Grant, Host, Severity, Status, StoreError, Token,
    TokenOptions,
};

use super::document::{self, ConnectionName, Subject};
use super::failure::Failure;
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
        Ok(Self {
            subject: session.subject(name),
            connection,
        })
    }

    fn failure(&self, error: Error) -> Failure {
        Failure::of(error, Some(&self.subject))
    }
}

/// Where a connection stands.
pub struct Standing {
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
                document,
                status: nowhere(ConnectionState::NotConfigured(problems)),
                next: None,
            });
        }
    };
    let next = next_step(&connection.config().grant, &subject);
    let status = connection
        .status()
        .await
        .map_err(|error| Failure::of(error, Some(&subject)))?;
    let next = (status.state == ConnectionState::NotAuthorized).then_some(next);
    Ok(Standing {
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
            "There are no connections in {}. Create one with `tokenwell create NAME`.\n",
            session.directory.path().display()
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
    let (_, mut problems) = examine(&host, &subject, &layers.document()).await?;
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
        super::failure::Kind::NotConfigured.exit_code()
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
    let names = match args.names {
        names if names.is_empty() => session.directory.names(session.profile.as_ref())?,
        names => names,
    };
    let host = session.host()?;
    let now = output::now();
    let mut values = Vec::new();
    let mut text = String::new();
    for name in &names {
        let subject = session.subject(name);
        match standing(session, &host, name).await {
            Ok(Standing { status, next, .. }) => {
                values.push(output::status_json(&subject, &status));
                text.push_str(&output::status_text(&subject, &status, now));
                if let Some(next) = next {
                    text.push_str(&output::field("next", &next));
                }
            }
            Err(failure) if one => return Err(failure),
            Err(failure) => {
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
        output::note(&format!(
            "There are no connections in {}.\n",
            session.directory.path().display()
        ));
    }
    session.print(
        || {
            if one {
                values.pop().unwrap_or_default()
            } else {
                Value::Array(values)
            }
        },
        || text,
    )
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
    let token = opened
        .connection
        .token(options)
        .await
        .map_err(|error| opened.failure(error))?;
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
        .map_err(|error| opened.failure(error))?;
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
        .map_err(|error| opened.failure(error))?;
    output::print(&format!("{text}\n")).map(|()| 0)
}

/// `userinfo`.
pub async fn userinfo(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let opened = Opened::new(session, name).await?;
    let text = opened
        .connection
        .userinfo()
        .await
        .map_err(|error| opened.failure(error))?;
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

/// The redirect URI of the listener, the port left out (RFC 8252 section 7.3).
pub const LOOPBACK_REDIRECT_URI: &str = "http://127.0.0.1/oauth2";

/// `callback-url`.
pub async fn callback_url(session: &Session, name: &ConnectionName) -> Result<u8, Failure> {
    let document = session.document(name)?;
    let configured = document
        .get("redirect_uri")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let explanation = match &configured {
        Some(_) => {
            "This is the config's redirect_uri: register it at the server exactly as it is.\n"
        }
        None => {
            "Register this at the server. The port is left out because any free one is used: for the loopback address \
             a server has to accept every port (RFC 8252 section 7.3).\nA server that wants a port, or `localhost`: \
             register http://127.0.0.1:8765/oauth2, say, and set the same as `redirect_uri` in the config.\n"
        }
    };
    let uri = configured.unwrap_or_else(|| LOOPBACK_REDIRECT_URI.into());
    session.print(
        || json!({"redirect_uri": uri, "explanation": explanation.trim()}),
        || format!("{}\n", output::printable(&uri)),
    )?;
    if !session.json {
        output::note(&output::dim(explanation));
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
        .mend("`tokenwell list` shows those there are."));
    }
    if !args.yes && !confirmed(&subject, profiles.len())? {
        output::note("Nothing was deleted.\n");
        return Ok(0);
    }
    for profile in &profiles {
        let full_name = document::full_name(&args.name, profile.as_ref());
        forget(session, &format!("{full_name}.tokens")).await?;
        forget(session, &format!("{full_name}.trust")).await?;
        // Those that `create --seal` made for it.
        for field in keys::SECRET_FIELDS {
            let secret = keys::sealed_name(&full_name, field);
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
