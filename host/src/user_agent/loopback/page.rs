//! The page that the user is left with. It loads nothing, runs nothing, and
//! shows nothing unescaped.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};

use crate::contract::Outcome;

/// The page's one style sheet, inlined.
const STYLE: &str = include_str!("page.css");

/// Nothing but that style sheet, by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        STANDARD.encode(Sha256::digest(STYLE))
    )
});

/// The answer to a redirect. `None`: the listener was closed before anybody
/// said how it went.
pub(super) fn outcome_page(connection: &str, outcome: Option<&Outcome>) -> Response<Full<Bytes>> {
    let connection = escape(connection);
    let (status, title, text) = match outcome {
        Some(Outcome::Authorized) => (
            StatusCode::OK,
            "Authorized",
            format!("The connection <strong>{connection}</strong> is authorized."),
        ),
        Some(Outcome::Failed(reason)) => (
            StatusCode::BAD_REQUEST,
            "Not authorized",
            format!(
                "The connection <strong>{connection}</strong> could not be authorized: {}",
                escape(reason)
            ),
        ),
        Some(Outcome::Refused(reason)) => (
            StatusCode::BAD_REQUEST,
            "Not accepted",
            format!(
                "This is not the response that the connection <strong>{connection}</strong> is \
                 waiting for: {}",
                escape(reason)
            ),
        ),
        None => (
            StatusCode::BAD_REQUEST,
            "Not authorized",
            format!(
                "The connection <strong>{connection}</strong> is no longer waiting for a response."
            ),
        ),
    };
    let class = if status == StatusCode::OK {
        "good"
    } else {
        "bad"
    };
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}: {connection}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <main class=\"{class}\">\n<h1>{title}</h1>\n<p role=\"status\">{text}</p>\n\
         <p>You can close this window.</p>\n</main>\n</body>\n</html>\n"
    );
    respond(status, "text/html; charset=utf-8", html)
}

/// The answer to what is no redirect at all.
pub(super) fn error_response(status: StatusCode) -> Response<Full<Bytes>> {
    let reason = status.canonical_reason().unwrap_or_default();
    respond(status, "text/plain; charset=utf-8", format!("{reason}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    use http::HeaderValue;

    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(policy) = HeaderValue::try_from(POLICY.as_str()) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
