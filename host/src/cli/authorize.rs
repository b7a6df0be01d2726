//! `authorize` and `complete`: the commands with a user before them.

use std::io::{self, BufRead, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use serde_json::json;
use tokenwell::{
    Arrival, AuthorizationOptions, AuthorizeOptions, Browser, Connection, DeviceAuthorization,
    Error, Event, Grant, Listener, Outcome, Prompt, Redirect, UserAgent, UserAgentError,
};
use tokenwell_core::endpoint::is_of_this_machine;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::document::{ConnectionName, Subject};
use super::failure::Failure;
use super::{Session, build, input, output};

/// What `authorize` can be told.
#[derive(Args)]
#[command(after_help = "\
The browser opens on the server's page; when you have consented it returns to this machine and the token is there. It
may be done any number of times; the tokens that are there stay until the new ones have come.

Without a browser on this machine, use --no-browser and open the URL where there is one. The page that it ends on will
not load there: paste its URL here, or give it to `tokenwell complete`. With a redirect_uri that is not on this machine
the command ends at once and `tokenwell complete` does the rest.

Examples:
  tokenwell authorize shop
  tokenwell authorize shop --no-browser
  tokenwell authorize shop --no-browser --json --timeout 120
  tokenwell authorize tv --device")]
pub struct AuthorizeArgs {
    /// The connection
    name: ConnectionName,
    /// Print the URL in place of opening the browser
    #[arg(long)]
    no_browser: bool,
    /// Show a code to type on another device (RFC 8628)
    #[arg(long)]
    device: bool,
    /// How long to wait for the user, in seconds, at most 600 [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: Option<u32>,
    /// The user expected to sign in
    #[arg(long, value_name = "USER")]
    login_hint: Option<String>,
    /// What to ask the user this time, in place of the config's prompt; may be repeated
    #[arg(long, value_name = "PROMPT", value_parser = prompt)]
    prompt: Vec<Prompt>,
}

fn prompt(text: &str) -> Result<Prompt, String> {
    match text {
        "none" => Ok(Prompt::None),
        "login" => Ok(Prompt::Login),
        "consent" => Ok(Prompt::Consent),
        "select_account" => Ok(Prompt::SelectAccount),
        _ => Err("it is one of none, login, consent, select_account".into()),
    }
}

/// Authorizes a connection.
///
/// # Errors
/// What the user, the server or the component said; the tokens that were there
/// are untouched then.
pub async fn authorize(session: &Session, args: AuthorizeArgs) -> Result<u8, Failure> {
    let subject = session.subject(&args.name);
    let user = Terminal {
        browser: !args.no_browser,
        json: session.json,
        paste: args.no_browser && !session.json && io::stdin().is_terminal(),
        redirect_uri: Mutex::new(String::new()),
    };
    let as_json = session.json;
    // Who pastes a URL is told of it there.
    let tells = !as_json && !user.paste;
    let builder = session.builder().user_agent(user);
    let host = build(builder.events(move |event: Event| {
        if tells && event.kind == "redirect-refused" {
            output::note(&format!("{}\n", output::printable(&event.message)));
        }
    }))?;
    let connection = session.open(&host, &args.name).await?;
    let subject = subject.with_grant(&connection.config().grant);
    let device = args.device || connection.config().grant == Grant::DeviceCode;
    let options = AuthorizationOptions {
        redirect_uri: None,
        prompt: args.prompt,
        login_hint: args.login_hint,
        parameters: Vec::new(),
    };
    if !device
        && let Some(redirect_uri) = &connection.config().redirect_uri
        && !is_of_this_machine(redirect_uri)
    {
        return begin(session, &subject, &connection, options, args.no_browser).await;
    }
    let options = AuthorizeOptions {
        authorization: options,
        timeout_seconds: args.timeout,
        device,
    };
    let status = connection.authorize(options).await.map_err(|error| {
        let came_to_nothing = match &error {
            Error::NotAuthorized(reason) => Some(format!(
                "the authorization of {} came to nothing: {reason}",
                subject.full_name()
            )),
            _ => None,
        };
        let failure = Failure::of(error, Some(&subject));
        match came_to_nothing {
            // What it was before, it still is.
            Some(message) => Failure { message, ..failure },
            None => failure,
        }
    })?;
    if as_json {
        output::print_json_line(&output::status_json(&subject, &status)).map(|()| 0)
    } else {
        output::print(&output::status_text(&subject, &status, output::now())).map(|()| 0)
    }
}

/// Begins what `complete` will finish, because the user is sent back to
/// another machine or program.
async fn begin(
    session: &Session,
    subject: &Subject,
    connection: &Connection,
    options: AuthorizationOptions,
    no_browser: bool,
) -> Result<u8, Failure> {
    let pending = connection
        .begin_authorization(options)
        .await
        .map_err(|error| Failure::of(error, Some(subject)))?;
    if session.json {
        output::print_json_line(&json!({
            "authorization_url": pending.authorization_url,
            "redirect_uri": pending.redirect_uri,
            "expires_at": pending.expires_at,
            "url_expires_at": pending.url_expires_at,
        }))?;
        return Ok(0);
    }
    if no_browser
        || Browser
            .open_url(subject.full_name(), &pending.authorization_url)
            .await
            .is_err()
    {
        output::note("Open this URL in a browser:\n");
        output::print(&format!("{}\n", pending.authorization_url))?;
    }
    let complete = subject.command("complete");
    let now = output::now();
    if let Some(until) = pending.url_expires_at {
        let until = output::instant(until, now);
        output::note(&format!("It can be opened until {until}.\n"));
    }
    let until = output::instant(pending.expires_at, now);
    output::note(&format!(
        "The browser will return to {}, which is not on this machine. Take the URL it ends on, and run\n  \
         {complete} 'URL'\nNo later than {until}.\n",
        output::printable(&pending.redirect_uri),
    ));
    if !io::stdin().is_terminal() {
        return Ok(0);
    }
    output::note("Or paste it here now; Enter alone leaves it for later: ");
    let mut lines = lines_of_standard_input();
    let line = lines.recv().await.unwrap_or_default();
    if line.is_empty() {
        return Ok(0);
    }
    finish(session, subject, connection, redirect(line)).await
}

/// What `complete` can be told.
#[derive(Args)]
#[command(after_help = "\
The URL is the one that the browser ended on after the consent, whole, from its address bar; of a form post it is the
body. It works once, and only for an authorization begun here less than ten minutes ago.

Examples:
  tokenwell complete shop 'https://app.example.com/callback?code=…&state=…'
  pbpaste | tokenwell complete shop -")]
pub struct CompleteArgs {
    /// The connection
    name: ConnectionName,
    /// The URL; - reads it from standard input
    url: String,
}

/// Completes an authorization that was begun here, by any process.
///
/// # Errors
/// Protocol violation where it is not the answer to one begun here, which then
/// can still be completed.
pub async fn complete(session: &Session, args: CompleteArgs) -> Result<u8, Failure> {
    let text = match args.url.as_str() {
        "-" => input::line("URL")?.trim().to_owned(),
        url => url.to_owned(),
    };
    let host = session.host()?;
    let connection = session.open(&host, &args.name).await?;
    let subject = session.subject(&args.name);
    let subject = subject.with_grant(&connection.config().grant);
    finish(session, &subject, &connection, redirect(text)).await
}

async fn finish(
    session: &Session,
    subject: &Subject,
    connection: &Connection,
    redirect: Redirect,
) -> Result<u8, Failure> {
    let status = connection
        .complete_authorization(redirect)
        .await
        .map_err(|error| Failure::of(error, Some(subject)))?;
    session.print(
        || output::status_json(subject, &status),
        || output::status_text(subject, &status, output::now()),
    )
}

/// A callback as the user has it: a URL, or else its query or the body of a form
/// post.
fn redirect(text: String) -> Redirect {
    let text = text.trim();
    if url::Url::parse(text).is_ok() {
        Redirect::Url(text.to_owned())
    } else {
        Redirect::FormPost(text.trim_start_matches('?').to_owned())
    }
}

/// Lines as they are typed. Reading cannot be given up, so it has a thread of
/// its own, which ends with the process.
fn lines_of_standard_input() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The user of this terminal, with or without a browser.
struct Terminal {
    browser: bool,
    json: bool,
    paste: bool,
    /// Where the listener in use is, to be told with the URL.
    redirect_uri: Mutex<String>,
}

impl Terminal {
    fn show_url(&self, url: &str) -> Result<(), UserAgentError> {
        let shown = if self.json {
            let redirect_uri = self
                .redirect_uri
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            output::print_json_line(
                &json!({"authorization_url": url, "redirect_uri": redirect_uri}),
            )
        } else {
            output::note("Open this URL in a browser:\n");
            output::print(&format!("{url}\n"))
        };
        shown.map_err(|failure| UserAgentError::Unavailable(failure.message))?;
        if self.paste {
            output::note(
                "Waiting for the answer. If the browser is on another machine, paste the URL it ends on here, and press \
                 Enter.\n",
            );
        }
        Ok(())
    }
}

#[async_trait]
impl UserAgent for Terminal {
    async fn listen(
        &self,
        connection: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Box<dyn Listener>, UserAgentError> {
        let loopback = Browser.listen(connection, redirect_uri).await?;
        loopback.redirect_uri().clone_into(
            &mut self
                .redirect_uri
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if !self.paste {
            return Ok(loopback);
        }
        Ok(Box::new(PasteOrLoopback {
            loopback,
            lines: lines_of_standard_input(),
            open: true,
        }))
    }

    async fn open_url(&self, connection: &str, url: &str) -> Result<(), UserAgentError> {
        if !self.browser {
            return self.show_url(url);
        }
        match Browser.open_url(connection, url).await {
            Ok(()) if self.json => Ok(()),
            Ok(()) => {
                output::note(
                    "Your browser opens on the server's page. If it does not, open this URL in it:\n",
                );
                output::note(&format!("  {url}\n"));
                Ok(())
            }
            // A machine without a browser is no reason to give up.
            Err(UserAgentError::Unavailable(reason)) => {
                output::note(&format!(
                    "No browser could be opened ({}).\n",
                    output::printable(&reason)
                ));
                self.show_url(url)
            }
            Err(denied) => Err(denied),
        }
    }

    async fn show_device_code(
        &self,
        connection: &str,
        device: &DeviceAuthorization,
    ) -> Result<(), UserAgentError> {
        let shown = if self.json {
            output::print_json_line(&output::device_json(device))
        } else {
            let whole = match &device.verification_uri_complete {
                Some(uri) => format!("Or open {}\n", output::printable(uri)),
                None => String::new(),
            };
            output::print(&format!(
                "Open {} on any device and type the code {}\n{whole}It is valid until {}.\n",
                output::printable(&device.verification_uri),
                output::bold(&output::printable(&device.user_code)),
                output::instant(device.expires_at, output::now()),
            ))
        };
        shown.map_err(|failure| UserAgentError::Unavailable(failure.message))?;
        if self.browser && !self.json {
            let uri = device
                .verification_uri_complete
                .as_ref()
                .unwrap_or(&device.verification_uri);
            // The code is shown either way.
            if let Err(UserAgentError::Denied(reason)) = Browser.open_url(connection, uri).await {
                return Err(UserAgentError::Denied(reason));
            }
        }
        Ok(())
    }
}

/// Takes what comes first: a redirect to this machine, or a pasted URL.
struct PasteOrLoopback {
    loopback: Box<dyn Listener>,
    lines: UnboundedReceiver<String>,
    /// Whether more lines may come.
    open: bool,
}

#[async_trait]
impl Listener for PasteOrLoopback {
    fn redirect_uri(&self) -> &str {
        self.loopback.redirect_uri()
    }

    async fn next(&mut self, wait: Duration) -> Result<Option<Box<dyn Arrival>>, UserAgentError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                arrival = self.loopback.next(deadline.saturating_duration_since(tokio::time::Instant::now())) => return arrival,
                line = self.lines.recv(), if self.open => match line {
                    None => self.open = false,
                    Some(line) if line.is_empty() => {}
                    Some(line) => return Ok(Some(Box::new(Pasted(line)))),
                },
            }
        }
    }
}

/// A redirect that the user pasted.
struct Pasted(String);

#[async_trait]
impl Arrival for Pasted {
    fn redirect(&self) -> Redirect {
        redirect(self.0.clone())
    }

    async fn respond(&mut self, outcome: Outcome) {
        if let Outcome::Refused(reason) = outcome {
            output::note(&format!(
                "That is not the answer that is awaited: {}. Paste another.\n",
                output::printable(&reason)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_is_a_url_or_the_body_of_a_form_post() {
        assert_eq!(
            redirect(" http://127.0.0.1/cb?code=c \n".into()),
            Redirect::Url("http://127.0.0.1/cb?code=c".into())
        );
        for text in ["code=c&state=s", "?code=c&state=s"] {
            assert_eq!(
                redirect(text.into()),
                Redirect::FormPost("code=c&state=s".into())
            );
        }
    }

    /// A loopback on which nothing ever arrives.
    struct Silent;

    #[async_trait]
    impl Listener for Silent {
        fn redirect_uri(&self) -> &str {
            "http://127.0.0.1:1/oauth2"
        }

        async fn next(
            &mut self,
            wait: Duration,
        ) -> Result<Option<Box<dyn Arrival>>, UserAgentError> {
            tokio::time::sleep(wait).await;
            Ok(None)
        }
    }

    #[tokio::test]
    async fn a_pasted_url_arrives_like_a_redirect() {
        let (sender, lines) = unbounded_channel();
        let mut listener = PasteOrLoopback {
            loopback: Box::new(Silent),
            lines,
            open: true,
        };
        sender.send(String::new()).unwrap();
        sender
            .send("http://127.0.0.1:1/oauth2?code=c".into())
            .unwrap();
        let arrival = listener
            .next(Duration::from_secs(300))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            arrival.redirect(),
            Redirect::Url("http://127.0.0.1:1/oauth2?code=c".into())
        );
    }

    #[tokio::test]
    async fn the_wait_ends_in_time_when_standard_input_has_ended() {
        let (sender, lines) = unbounded_channel::<String>();
        drop(sender);
        let mut listener = PasteOrLoopback {
            loopback: Box::new(Silent),
            lines,
            open: true,
        };
        assert!(
            listener
                .next(Duration::from_millis(10))
                .await
                .unwrap()
                .is_none()
        );
    }
}
