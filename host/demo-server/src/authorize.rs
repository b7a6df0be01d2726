//! The authorization endpoint (RFC 6749 section 3.1) and the form behind it.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{COOKIE, HeaderMap, SET_COOKIE};

use crate::answer::{Answer, failure, html, see_other, with_header};
use crate::grants::{AuthorizationRequest, same_secret};
use crate::page::{self, SignIn};
use crate::parameters::Parameters;
use crate::random;
use crate::received::Received;
use crate::redirect_uri;
use crate::scope::Scope;
use crate::server::Server;

const COOKIE_NAME: &str = "tokenwell_demo_browser";
const FORM_LIFETIME: Duration = Duration::from_secs(600);
const MOST_FORMS: usize = 1000;

/// A page that somebody has before them.
struct Form {
    request: AuthorizationRequest,
    /// The cookie of the browser that the page was given to. Without it
    /// another site could have its own form filled in from the user's browser.
    browser: String,
    expires: Instant,
}

/// The pages that are out. Each takes one answer.
#[derive(Default)]
pub(crate) struct Forms(HashMap<String, Form>);

impl Forms {
    fn add(&mut self, request: AuthorizationRequest, browser: &str) -> io::Result<String> {
        let now = Instant::now();
        self.0.retain(|_, form| form.expires > now);
        if self.0.len() >= MOST_FORMS {
            return Err(io::Error::other("too many pages are open"));
        }
        let form_token = random::secret()?;
        self.0.insert(
            form_token.clone(),
            Form {
                request,
                browser: browser.to_owned(),
                expires: now + FORM_LIFETIME,
            },
        );
        Ok(form_token)
    }

    fn take(&mut self, form_token: &str, browser: &str) -> Option<AuthorizationRequest> {
        let form = self.0.get(form_token)?;
        if form.expires <= Instant::now() || !same_secret(&form.browser, browser) {
            return None;
        }
        self.0.remove(form_token).map(|form| form.request)
    }
}

/// What is wrong with an authorization request.
enum Fault {
    /// It cannot be told where the user belongs: say it to the user.
    Page(&'static str),
    /// Say it to the client (RFC 6749 section 4.1.2.1).
    Redirect {
        redirect_uri: String,
        state: Option<String>,
        error: &'static str,
        description: &'static str,
    },
}

fn read_request(server: &Server, query: &Parameters) -> Result<AuthorizationRequest, Fault> {
    if query.is_repeated("client_id") || query.is_repeated("redirect_uri") {
        return Err(Fault::Page(
            "The request names the client or the way back twice.",
        ));
    }
    let client_id = query
        .get("client_id")
        .filter(|client_id| *client_id == server.client_id)
        .ok_or(Fault::Page(
            "The program that sent you here is not known to this server.",
        ))?;
    let redirect_uri = query
        .get("redirect_uri")
        .filter(|requested| {
            let registered = &server.redirect_uris;
            registered.iter().any(|uri| redirect_uri::matches(uri, requested))
        })
        .ok_or(Fault::Page(
            "The address you would be sent back to is not registered for the program that sent you here.",
        ))?;

    let state = query.get("state").filter(|_| !query.is_repeated("state"));
    let fault = |error, description| Fault::Redirect {
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        error,
        description,
    };
    if query.any_repeated() {
        return Err(fault("invalid_request", "a parameter came twice"));
    }
    if query.get("request").is_some() {
        return Err(fault(
            "request_not_supported",
            "request objects are not known here",
        ));
    }
    if query.get("request_uri").is_some() {
        return Err(fault(
            "request_uri_not_supported",
            "request objects are not known here",
        ));
    }
    match query.get("response_type") {
        Some("code") => {}
        Some(_) => {
            return Err(fault(
                "unsupported_response_type",
                "response_type must be code",
            ));
        }
        None => return Err(fault("invalid_request", "response_type is missing")),
    }
    if query
        .get("response_mode")
        .is_some_and(|mode| mode != "query")
    {
        return Err(fault("invalid_request", "response_mode must be query"));
    }
    // RFC 7636 section 4.4.1 has this error and this text in mind.
    let code_challenge = query
        .get("code_challenge")
        .ok_or_else(|| fault("invalid_request", "code challenge required"))?;
    if query.get("code_challenge_method") != Some("S256") {
        return Err(fault(
            "invalid_request",
            "code_challenge_method must be S256",
        ));
    }
    if code_challenge.len() != 43 || !code_challenge.bytes().all(is_base64url) {
        return Err(fault(
            "invalid_request",
            "code_challenge is not a SHA-256 in base64url",
        ));
    }
    let scope = Scope::requested(query.get("scope")).ok_or_else(|| {
        fault(
            "invalid_scope",
            "scope can hold notes:read and offline_access",
        )
    })?;
    if query.get("prompt") == Some("none") {
        return Err(fault("login_required", "nobody is signed in"));
    }
    Ok(AuthorizationRequest {
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        scope,
        state: state.map(str::to_owned),
        code_challenge: code_challenge.to_owned(),
        login_hint: query.get("login_hint").map(str::to_owned),
    })
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// GET at the authorization endpoint.
pub(crate) fn authorize(
    server: &Server,
    query: &Parameters,
    headers: &HeaderMap,
    received: &mut Received,
) -> Answer {
    match read_request(server, query) {
        Ok(request) => {
            let typed = request.login_hint.clone().unwrap_or_default();
            show_form(server, request, &typed, None, headers)
        }
        Err(Fault::Page(reason)) => {
            received.error = Some("invalid_request");
            html(
                StatusCode::BAD_REQUEST,
                page::refused(&server.issuer, reason),
            )
        }
        Err(Fault::Redirect {
            redirect_uri,
            state,
            error,
            description,
        }) => {
            received.error = Some(error);
            let parameters = [("error", error), ("error_description", description)];
            send_back(server, &redirect_uri, state.as_deref(), &parameters)
        }
    }
}

/// POST of the form.
pub(crate) fn decide(
    server: &Server,
    form: &Parameters,
    headers: &HeaderMap,
    received: &mut Received,
) -> Answer {
    let browser = browser_of(headers);
    let request = match (form.get("form_token"), browser) {
        (Some(form_token), Some(browser)) if !form.any_repeated() => {
            server.forms().take(form_token, browser)
        }
        _ => None,
    };
    let Some(request) = request else {
        received.error = Some("invalid_request");
        let reason =
            "This page has been answered already, is too old, or was not opened in this browser.";
        return html(StatusCode::FORBIDDEN, page::refused(&server.issuer, reason));
    };
    if form.get("decision") != Some("allow") {
        received.error = Some("access_denied");
        let parameters = [
            ("error", "access_denied"),
            ("error_description", "the user said no"),
        ];
        return send_back(
            server,
            &request.redirect_uri,
            request.state.as_deref(),
            &parameters,
        );
    }

    let typed = form.get("user").unwrap_or_default();
    let problem = if !typed.trim().eq_ignore_ascii_case(&server.user_name) {
        Some(format!(
            "There is no such user here. Try {}.",
            server.user_name
        ))
    } else if form.get("password").is_none() {
        Some("Type a password: any will do.".to_owned())
    } else {
        None
    };
    if let Some(problem) = problem {
        return show_form(server, request, typed, Some(&problem), headers);
    }

    let (redirect_uri, state) = (request.redirect_uri.clone(), request.state.clone());
    match server.grants().issue_code(request, Instant::now()) {
        Ok(code) => send_back(server, &redirect_uri, state.as_deref(), &[("code", &code)]),
        Err(_) => {
            received.error = Some("server_error");
            send_back(
                server,
                &redirect_uri,
                state.as_deref(),
                &[("error", "server_error")],
            )
        }
    }
}

fn show_form(
    server: &Server,
    request: AuthorizationRequest,
    typed_user_name: &str,
    problem: Option<&str>,
    headers: &HeaderMap,
) -> Answer {
    let (browser, new) = match browser_of(headers) {
        Some(browser) => (browser.to_owned(), false),
        None => match random::secret() {
            Ok(browser) => (browser, true),
            Err(_) => return failure(),
        },
    };
    let (redirect_uri, scope) = (request.redirect_uri.clone(), request.scope.clone());
    let Ok(form_token) = server.forms().add(request, &browser) else {
        return failure();
    };
    let page = SignIn {
        issuer: &server.issuer,
        client_name: &server.client_name,
        redirect_uri: &redirect_uri,
        scope: &scope,
        user_name: &server.user_name,
        typed_user_name,
        form_token: &form_token,
        problem,
    }
    .page();
    let status = match problem {
        None => StatusCode::OK,
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let answer = html(status, page);
    if !new {
        return answer;
    }
    // Lax: it must come with the navigation from another site that opens the
    // page, and not with a form posted from there.
    let cookie = format!("{COOKIE_NAME}={browser}; Path=/; HttpOnly; SameSite=Lax");
    with_header(answer, SET_COOKIE, &cookie)
}

/// The browser's cookie, if it is one that this server may have set.
fn browser_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| {
            *name == COOKIE_NAME && value.len() == 43 && value.bytes().all(is_base64url)
        })
        .map(|(_, value)| value)
}

/// The authorization response, with the issuer in it (RFC 9207).
fn send_back(
    server: &Server,
    redirect_uri: &str,
    state: Option<&str>,
    parameters: &[(&str, &str)],
) -> Answer {
    let mut parameters = parameters.to_vec();
    parameters.extend(state.map(|state| ("state", state)));
    parameters.push(("iss", &server.issuer));
    see_other(&redirect_uri::with_parameters(redirect_uri, &parameters))
}
