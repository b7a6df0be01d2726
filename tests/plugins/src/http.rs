//! One request over `wasi:http`.

use crate::bindings::tokenwell::test_plugins::types::Answer;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use crate::bindings::wasi::io::streams::StreamError;

/// A request, in the parts that `wasi:http` has it in, so that one can be made
/// that no URL stands for.
pub struct Request<'a> {
    pub method: Method,
    pub scheme: Scheme,
    pub authority: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

impl<'a> Request<'a> {
    /// A GET in the clear.
    pub fn get(authority: &'a str, path: &'a str) -> Self {
        Self {
            method: Method::Get,
            scheme: Scheme::Http,
            authority,
            path,
            headers: &[],
            body: "",
        }
    }
}

/// Sends a request.
///
/// # Errors
/// What the host says.
pub fn send(request: &Request<'_>) -> Result<Answer, String> {
    let headers = Fields::new();
    for (name, value) in request.headers {
        headers
            .append(name, value.as_bytes())
            .map_err(|_| format!("the header {name} is refused"))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let refused = |what: &'static str| move |()| format!("the {what} is refused");
    outgoing
        .set_method(&request.method)
        .map_err(refused("method"))?;
    outgoing
        .set_scheme(Some(&request.scheme))
        .map_err(refused("scheme"))?;
    outgoing
        .set_authority(Some(request.authority))
        .map_err(refused("authority"))?;
    outgoing
        .set_path_with_query(Some(request.path))
        .map_err(refused("path"))?;
    let body = outgoing.body().map_err(refused("body"))?;
    let response = outgoing_handler::handle(outgoing, None).map_err(told)?;
    {
        let stream = body.write().map_err(refused("body"))?;
        // A host that takes no more of it answers all the same.
        let _ = stream.blocking_write_and_flush(request.body.as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(response)) => response.map_err(told)?,
        _ => return Err("no response".to_owned()),
    };
    let headers = response.headers().entries();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect();
    let incoming = response.consume().map_err(refused("body"))?;
    let stream = incoming.stream().map_err(refused("body"))?;
    let mut read = Vec::new();
    loop {
        match stream.blocking_read(4096) {
            Ok(bytes) => read.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(_) => return Err("the response broke off".to_owned()),
        }
    }
    Ok(Answer {
        status: response.status(),
        headers,
        body: text(read),
    })
}

fn told(code: ErrorCode) -> String {
    match code {
        ErrorCode::HttpRequestDenied => "the host denies it".to_owned(),
        _ => "the exchange failed".to_owned(),
    }
}
