//! Answers, with the headers that each kind must have.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::page::Page;

pub(crate) type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Sets a header, unless the value cannot be in one: then the server is at
/// fault, and says so.
pub(crate) fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            answer.headers_mut().insert(name, value);
            answer
        }
        Err(_) => failure(),
    }
}

pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer(status, "application/json", body.to_string())
}

pub(crate) fn empty(status: StatusCode) -> Answer {
    answer(status, "text/plain; charset=utf-8", "")
}

pub(crate) fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

pub(crate) fn failure() -> Answer {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The server has failed.\n",
    )
}

pub(crate) fn only(methods: &'static str) -> Answer {
    let answer = text(StatusCode::METHOD_NOT_ALLOWED, "Not with this method.\n");
    with_header(answer, ALLOW, methods)
}

pub(crate) fn html(status: StatusCode, page: Page) -> Answer {
    let mut answer = answer(status, "text/html; charset=utf-8", page.html);
    let headers = answer.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    with_header(
        answer,
        CONTENT_SECURITY_POLICY,
        &page.content_security_policy,
    )
}

/// Sends the browser on with a GET, whatever it came with (RFC 9700 section
/// 4.12).
pub(crate) fn see_other(location: &str) -> Answer {
    let mut answer = empty(StatusCode::SEE_OTHER);
    let referrer = HeaderValue::from_static("no-referrer");
    answer.headers_mut().insert(REFERRER_POLICY, referrer);
    with_header(answer, LOCATION, location)
}
