//! `demo`: the whole way of a token, shown on this machine. Nothing is staged:
//! what is printed was done, and what is ticked off was checked.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenwell::{
    AuthorizationOptions, AuthorizeOptions, Browser, Connection, ConnectionState,
    DeviceAuthorization, Host, Listener, RenewalReason, Severity, Status, Token, TokenOptions,
    UserAgent, UserAgentError,
};
use tokenwell_demo_server::{DemoServer, Endpoint, GrantType, Options, Received, TokenHash};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::document::{ConnectionName, Directory};
use super::failure::Failure;
use super::{build, output};

/// How many programs ask at once in the last step but one.
const CALLERS: usize = 50;

/// How long the server takes to answer a token request: as one far away would,
/// so that the callers are really there at the same time.
const SERVER_DELAY: Duration = Duration::from_millis(200);

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const TICK: Style = AnsiColor::Green.on_default().bold();

/// What `demo` can be told.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Sign in and consent by itself, for a machine without a display
    #[arg(long)]
    pub auto_consent: bool,
}

/// Runs the demonstration; the exit code on success.
///
/// # Errors
/// The failure of the step that did not succeed.
pub async fn run(args: DemoArgs) -> Result<u8, Failure> {
    tokio::select! {
        shown = demonstrate(args.auto_consent) => shown.map(|()| 0),
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::interrupted("the demonstration was interrupted; nothing of it is left behind")),
    }
}

async fn demonstrate(auto_consent: bool) -> Result<(), Failure> {
    output::print(&format!(
        "{}\nAn OAuth 2.0 token from first to last, all on this computer. Twenty seconds.\n",
        output::bold("Tokenwell demo")
    ))?;
    let server = start_server().await?;
    let (landing, landed) = oneshot::channel();
    let directory = tempfile::Builder::new()
        .prefix("tokenwell-demo-")
        .tempdir()
        .map_err(|error| {
            Failure::file(
                "cannot create a directory in",
                &std::env::temp_dir(),
                &error,
            )
        })?;
    let user = DemoUser {
        server: Arc::clone(&server),
        auto_consent: auto_consent.then(|| Mutex::new(Some(landing))),
    };
    let host = build(Host::in_directory(directory.path()).user_agent(user))?;
    let connection = configure(&server, &host, &directory).await?;
    let demo = Demo { server, connection };
    demo.authorize(auto_consent.then_some(landed)).await?;
    let first = demo.first_token().await?;
    wait_past_expiry(5, &first).await?;
    demo.renewal(&first).await?;
    demo.protected_resource().await?;
    let current = demo.token().await?;
    wait_past_expiry(8, &current).await?;
    demo.many_at_once(&current).await?;
    demo.clear_up(directory).await
}

fn heading(number: usize, title: &str, text: &str) -> Result<(), Failure> {
    output::print(&format!("\n{HEADING}{number}  {title}{HEADING:#}\n"))?;
    text.lines()
        .try_for_each(|line| output::print(&format!("   {line}\n")))
}

fn detail(label: &str, value: &str) -> Result<(), Failure> {
    output::print(&format!(
        "   {} {}\n",
        output::dim(&format!("{label:<15}")),
        output::printable(value)
    ))
}

/// Ticks off what is so; what is not ends the demonstration.
fn check(so: bool, what: &str) -> Result<(), Failure> {
    if so {
        output::print(&format!("   {TICK}✓{TICK:#} {}\n", output::printable(what)))
    } else {
        Err(Failure::internal(format!(
            "the demonstration expected this, and it is not so: {what}"
        ))
        .mend("This should not happen: please report it."))
    }
}

/// A token as it may be shown.
fn brief(token: &str) -> String {
    let beginning: String = token.chars().take(6).collect();
    format!("{beginning}…  (SHA-256 {}…)", TokenHash::of(token))
}

fn library(error: tokenwell::Error) -> Failure {
    let denied = matches!(error, tokenwell::Error::Denied(_));
    let failure = Failure::of(error, None);
    if denied {
        failure.mend("Run `tokenwell demo` again and allow it.")
    } else {
        failure
    }
}

async fn start_server() -> Result<Arc<DemoServer>, Failure> {
    let options = Options {
        token_endpoint_delay: SERVER_DELAY,
        ..Options::default()
    };
    let lifetime = options.access_token_lifetime.as_secs();
    let server = DemoServer::start(options)
        .await
        .map_err(|error| Failure::internal(format!("the demo server cannot start: {error}")))?;
    heading(
        1,
        "An authorization server",
        "A small one of its own runs inside this command. Its tokens are good for\na few seconds only, so that there is something to see.",
    )?;
    detail("issuer", server.issuer())?;
    detail("access tokens", &format!("expire after {lifetime} seconds"))?;
    detail(
        "refresh tokens",
        "are good for one use: each brings the next",
    )?;
    detail(
        "the user",
        &format!("{}, with any password", server.user_name()),
    )?;
    Ok(Arc::new(server))
}

async fn configure(
    server: &DemoServer,
    host: &Host,
    directory: &TempDir,
) -> Result<Connection, Failure> {
    heading(
        2,
        "A connection",
        "It is described by one JSON file. Endpoints and the way to authenticate are\nfound out from the issuer; PKCE is on unless it is turned off.",
    )?;
    let document = json!({
        "issuer": server.issuer(),
        "client_id": server.client_id(),
        "scope": "notes:read offline_access",
    });
    let name: ConnectionName = "demo".parse().map_err(|why| {
        Failure::internal(format!("the name of the connection is refused: {why}"))
    })?;
    let connections = Directory::new(Some(directory.path().to_owned()))?;
    let file = connections.file(&name, None);
    connections.write(&file, &document, false)?;
    detail("file", &file.display().to_string())?;
    for line in format!("{document:#}").lines() {
        output::print(&format!("   {}\n", output::printable(line)))?;
    }
    let written = connections.load(&name, None)?;
    let config = host
        .parse_config(&written.to_string())
        .await
        .map_err(library)?;
    let connection = host.connection(&name.to_string(), config);
    let problems = connection.check().await.map_err(library)?;
    output::print(&output::problems_text(&problems))?;
    check(
        problems
            .iter()
            .all(|problem| problem.severity != Severity::Error),
        "The config has been checked.",
    )?;
    let status = connection.status().await.map_err(library)?;
    check(
        status.state == ConnectionState::NotAuthorized,
        "Its state: not authorized yet.",
    )?;
    Ok(connection)
}

/// Lets a token expire, visibly.
async fn wait_past_expiry(number: usize, token: &Token) -> Result<(), Failure> {
    let expires_at = token.expires_at.ok_or_else(|| {
        Failure::internal("the token has no expiry, although the server told one")
    })?;
    heading(
        number,
        "Time passes",
        "Nobody does anything until the token has expired.",
    )?;
    // A whole second on: then it has, however the fractions were rounded.
    let end = UNIX_EPOCH + Duration::from_secs(expires_at.saturating_add(1));
    let on_terminal = io::stdout().is_terminal();
    let mut first = true;
    while let Ok(left) = end.duration_since(SystemTime::now()) {
        let whole = left.as_secs();
        let seconds = whole + u64::from(left.subsec_nanos() > 0);
        if on_terminal {
            let bar = "▪".repeat(usize::try_from(seconds).unwrap_or(0).min(40));
            output::print(&format!(
                "\r\x1b[2K   {seconds:>2} s  {}",
                output::dim(&bar)
            ))?;
        } else if first {
            output::print(&format!("   Waiting {seconds} seconds.\n"))?;
        }
        first = false;
        let step = left.saturating_sub(Duration::from_secs(seconds.saturating_sub(1)));
        tokio::time::sleep(step.max(Duration::from_millis(1))).await;
    }
    if on_terminal {
        output::print("\r\x1b[2K")?;
    }
    check(
        output::now() > expires_at,
        &format!("{} has expired.", brief(&token.access_token)),
    )
}

/// What the steps after the consent share.
struct Demo {
    server: Arc<DemoServer>,
    connection: Connection,
}

impl Demo {
    /// What the server has received at one of its endpoints.
    fn received(&self, endpoint: Endpoint) -> Vec<Received> {
        let mut requests = self.server.requests();
        requests.retain(|request| request.endpoint == endpoint);
        requests
    }

    async fn token(&self) -> Result<Token, Failure> {
        self.connection
            .token(TokenOptions::default())
            .await
            .map_err(library)
    }

    async fn status(&self) -> Result<Status, Failure> {
        self.connection.status().await.map_err(library)
    }

    async fn authorize(
        &self,
        landed: Option<oneshot::Receiver<io::Result<u16>>>,
    ) -> Result<(), Failure> {
        heading(
            3,
            "Your consent",
            "The user signs in at the server, in a browser of their own, and allows the\nconnection to read notes. The browser then comes back to this computer.",
        )?;
        let options = AuthorizeOptions {
            authorization: AuthorizationOptions::default(),
            timeout_seconds: None,
            device: false,
        };
        let authorize = async { self.connection.authorize(options).await.map_err(library) };
        let status = match landed {
            None => authorize.await?,
            Some(landed) => {
                let landed = async {
                    match landed.await {
                        Ok(Ok(status)) => Ok(status),
                        Ok(Err(error)) => Err(Failure::internal(format!(
                            "the automatic consent failed: {error}"
                        ))),
                        Err(_) => Err(Failure::internal("nobody was asked for consent")),
                    }
                };
                let (status, page) = tokio::try_join!(authorize, landed)?;
                check(
                    page == 200,
                    "Signed in, allowed, and came back to a page that says so.",
                )?;
                status
            }
        };
        check(
            status.state == ConnectionState::Authorized,
            "Its state: authorized.",
        )?;
        let requests = self.received(Endpoint::Token);
        let exchanged = requests.iter().filter(|request| {
            request.grant_type == Some(GrantType::AuthorizationCode) && request.status == 200
        });
        check(
            exchanged.count() == 1,
            "The code was exchanged for tokens; the server checked the PKCE proof.",
        )
    }

    async fn first_token(&self) -> Result<Token, Failure> {
        heading(
            4,
            "The token",
            "Whoever needs a token asks for it each time, and does not keep it.",
        )?;
        let token = self.token().await?;
        let issued = self
            .received(Endpoint::Token)
            .last()
            .and_then(|request| request.access_token_issued);
        detail("access token", &brief(&token.access_token))?;
        check(
            issued == Some(TokenHash::of(&token.access_token)),
            "It is the one that the server gave out.",
        )?;
        let before = self.received(Endpoint::Token).len();
        let asked = Instant::now();
        let again = self.token().await?;
        let took = asked.elapsed();
        check(
            again.access_token == token.access_token
                && self.received(Endpoint::Token).len() == before,
            &format!(
                "Asked again: the same, from the store, in {:.1} ms.",
                took.as_secs_f64() * 1000.0
            ),
        )?;
        self.show_status().await?;
        Ok(token)
    }

    async fn show_status(&self) -> Result<(), Failure> {
        let status = self.status().await?;
        check(
            status.state == ConnectionState::Authorized && status.refreshable,
            "It can be renewed without the user.",
        )?;
        if let Some(at) = status.expires_at {
            detail("expires", &output::instant(at, output::now()))?;
        }
        detail("scope", &status.scope.join(" "))
    }

    async fn renewal(&self, expired: &Token) -> Result<(), Failure> {
        heading(
            6,
            "The renewal",
            "Somebody asks for a token. The old one is not handed out: a new one is\nfetched first, with the refresh token.",
        )?;
        let issued_before = self
            .received(Endpoint::Token)
            .last()
            .and_then(|request| request.refresh_token_issued);
        let token = self.token().await?;
        detail("old token", &brief(&expired.access_token))?;
        detail("new token", &brief(&token.access_token))?;
        check(
            token.access_token != expired.access_token && token.expires_at > Some(output::now()),
            "It is another one, and it has not expired.",
        )?;

        let requests = self.received(Endpoint::Token);
        let refresh = requests
            .last()
            .filter(|request| {
                request.grant_type == Some(GrantType::RefreshToken) && request.status == 200
            })
            .ok_or_else(|| Failure::internal("the server has not seen the refresh token"))?;
        check(
            refresh.access_token_issued == Some(TokenHash::of(&token.access_token)),
            "The server gave it out for the refresh token.",
        )?;
        if let (Some(presented), Some(issued)) = (
            refresh.refresh_token_presented,
            refresh.refresh_token_issued,
        ) {
            detail(
                "refresh token",
                &format!("{presented}… came in, {issued}… went out"),
            )?;
        }
        check(
            refresh.refresh_token_presented == issued_before
                && refresh.refresh_token_issued.is_some()
                && refresh.refresh_token_issued != refresh.refresh_token_presented,
            "The refresh token was rotated.",
        )?;

        let history = self.connection.history().await.map_err(library)?;
        let renewed = history
            .iter()
            .rev()
            .find(|event| event.kind == "renewed")
            .ok_or_else(|| Failure::internal("the history does not tell of the renewal"))?;
        detail("history", &renewed.message)?;
        let reason = self
            .status()
            .await?
            .last_renewal
            .map(|renewal| renewal.reason);
        check(
            reason == Some(RenewalReason::Expired),
            "The reason on record: the token had expired.",
        )
    }

    async fn protected_resource(&self) -> Result<(), Failure> {
        heading(
            7,
            "The protected resource",
            "What all this is for: a call that needs a token.",
        )?;
        let url = self.server.resource_url();
        let request = http::Request::get(&url)
            .body(Bytes::new())
            .map_err(|error| Failure::internal(format!("the request cannot be made: {error}")))?;
        let response = self.connection.send(request).await.map_err(library)?;
        detail("GET", &url)?;
        detail("answer", response.status().as_str())?;
        let body: Value = serde_json::from_slice(response.body()).map_err(|error| {
            Failure::internal(format!("the resource did not answer with JSON: {error}"))
        })?;
        let notes: Vec<&str> = body["notes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|note| note["text"].as_str())
            .collect();
        for note in &notes {
            detail("note", note)?;
        }
        check(
            response.status() == http::StatusCode::OK && !notes.is_empty(),
            "The notes are here.",
        )?;
        let presented = self
            .received(Endpoint::Resource)
            .last()
            .and_then(|request| request.access_token_presented);
        let issued = self
            .received(Endpoint::Token)
            .last()
            .and_then(|request| request.access_token_issued);
        check(
            presented.is_some() && presented == issued,
            "The token that came with the call is the last one given out.",
        )
    }

    async fn many_at_once(&self, expired: &Token) -> Result<(), Failure> {
        heading(
            9,
            "Fifty at once",
            "Fifty programs find the token expired at the same moment and ask for a new\none. A refresh token that is good for one use cannot be sent fifty times.",
        )?;
        let before = self.received(Endpoint::Token);
        let stored = before
            .last()
            .and_then(|request| request.refresh_token_issued);
        let asked = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let connection = self.connection.clone();
            callers.spawn(async move { connection.token(TokenOptions::default()).await });
        }
        let mut tokens = BTreeSet::new();
        let mut served = 0;
        while let Some(outcome) = callers.join_next().await {
            let token = outcome
                .map_err(|error| Failure::internal(format!("a caller has failed: {error}")))?
                .map_err(library)?;
            tokens.insert(token.access_token);
            served += 1;
        }
        let took = asked.elapsed();
        for token in &tokens {
            detail("new token", &brief(token))?;
        }
        check(
            served == CALLERS && tokens.len() == 1 && !tokens.contains(&expired.access_token),
            &format!(
                "All {CALLERS} have the same new one, {} ms later.",
                took.as_millis()
            ),
        )?;
        let after = self.received(Endpoint::Token);
        let requests = after.get(before.len()..).unwrap_or_default();
        detail(
            "token requests",
            &format!("{} counted by the server", requests.len()),
        )?;
        check(requests.len() == 1, "One was enough.")?;
        check(
            stored.is_some()
                && requests
                    .iter()
                    .all(|request| request.refresh_token_presented == stored),
            "It bore the refresh token that the renewal before had brought.",
        )
    }

    async fn clear_up(self, directory: TempDir) -> Result<(), Failure> {
        heading(
            10,
            "Clearing up",
            "The tokens are taken back at the server, then forgotten here.",
        )?;
        self.connection.revoke().await.map_err(library)?;
        let revoked = self
            .received(Endpoint::Revocation)
            .iter()
            .any(|request| request.status == 200);
        check(revoked, "The server has revoked them.")?;
        let status = self.status().await?;
        check(
            status.state == ConnectionState::NotAuthorized,
            "Its state: not authorized.",
        )?;
        let path = directory.path().to_owned();
        drop(self);
        directory
            .close()
            .map_err(|error| Failure::file("cannot remove", &path, &error))?;
        check(!path.exists(), "The directory with its files is gone.")?;
        output::print(&format!(
            "\n{}\nYours is next: `tokenwell create NAME --issuer https://… --client-id …`,\nthen `tokenwell authorize NAME`, and `tokenwell token NAME` from then on.\n",
            output::bold("That was all of it.")
        ))
    }
}

/// Where the authorization waits for what became of an automatic consent.
type Landing = oneshot::Sender<io::Result<u16>>;

/// The user of the demonstration: the one at the browser, or nobody.
struct DemoUser {
    server: Arc<DemoServer>,
    /// Present where the demonstration consents by itself.
    auto_consent: Option<Mutex<Option<Landing>>>,
}

#[async_trait]
impl UserAgent for DemoUser {
    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Box<dyn Listener>, UserAgentError> {
        Browser.listen(connection, redirect_uri).await
    }

    async fn open_url(&self, connection: &str, url: &str) -> Result<(), UserAgentError> {
        let show = |text: &str, url: &str| {
            let shown = text
                .lines()
                .try_for_each(|line| output::print(&format!("   {line}\n")))
                .and_then(|()| output::print(&format!("{url}\n")));
            shown.map_err(|failure| UserAgentError::Unavailable(failure.message))
        };
        let user = self.server.user_name();
        let Some(landing) = &self.auto_consent else {
            return match Browser.open_url(connection, url).await {
                Ok(()) => show(
                    &format!(
                        "Your browser opens: sign in as {user}, with any password. If it does not,\nopen this page in one on this computer; or stop with Ctrl-C and add\n--auto-consent."
                    ),
                    &output::dim(url),
                ),
                Err(UserAgentError::Unavailable(_)) => show(
                    &format!(
                        "There is no browser to be opened here. Open this page in one on this\ncomputer and sign in as {user}; or stop with Ctrl-C and add --auto-consent."
                    ),
                    url,
                ),
                Err(denied) => Err(denied),
            };
        };
        show(
            "Here nobody has to: this command opens the page and fills it in itself.",
            &output::dim(url),
        )?;
        let landing = landing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (server, url) = (Arc::clone(&self.server), url.to_owned());
        tokio::spawn(async move {
            let landed = server.consent_and_follow(&url).await;
            // Nobody waits for it any more where the authorization has failed,
            // which then is what is told.
            if let Some(landing) = landing {
                let _ = landing.send(landed);
            }
        });
        Ok(())
    }

    async fn show_device_code(
        &self,
        connection: &str,
        device: &DeviceAuthorization,
    ) -> Result<(), UserAgentError> {
        Browser.show_device_code(connection, device).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_by_its_beginning_and_its_hash() {
        // printf abcdefghijkl | sha256sum
        assert_eq!(brief("abcdefghijkl"), "abcdef…  (SHA-256 d682ed4c…)");
    }

    #[test]
    fn what_is_not_so_ends_the_demonstration_with_an_exit_code() {
        assert!(check(true, "so").is_ok());
        let failure = check(false, "not so").unwrap_err();
        assert!(failure.message.contains("not so"));
        assert_eq!(failure.kind.exit_code(), 1);
    }
}
