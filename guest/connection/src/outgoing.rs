//! One HTTP exchange over `wasi:http`, from the first byte out to the last byte
//! in, within one deadline.

use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use crate::bindings::wasi::io::poll::{Pollable, poll};
use crate::bindings::wasi::io::streams::StreamError;
use tokenwell_core::http::{self, Failure, RESPONSE_LIMIT, Request, Response};
use tokenwell_core::secret::SecretString;
use tokenwell_core::time::Timestamp;

/// How much of a body is read or written at once.
const CHUNK: usize = 4096;

/// Sends a request and reads the response to its end.
///
/// # Errors
/// Why there is no response, and whether the server may have acted.
pub fn send(request: &Request) -> Result<Response, Failure> {
    let deadline = Deadline::after(request.timeout_millis);
    let outgoing = build(request)?;
    let body = outgoing
        .body()
        .map_err(|()| not_sent("the request has no body"))?;
    let options = RequestOptions::new();
    let nanoseconds = Some(request.timeout_millis.saturating_mul(1_000_000));
    // A host that knows no timeouts is still held by the deadline.
    let _ = options.set_connect_timeout(nanoseconds);
    let _ = options.set_first_byte_timeout(nanoseconds);
    let _ = options.set_between_bytes_timeout(nanoseconds);
    let future = outgoing_handler::handle(outgoing, Some(options)).map_err(from_error_code)?;
    write(body, request.body.reveal().as_bytes(), &deadline)?;
    deadline.wait(&future.subscribe())?;
    let response = match future.get() {
        Some(Ok(response)) => response.map_err(from_error_code)?,
        Some(Err(())) | None => return Err(in_doubt("the host gave no response")),
    };
    read(response, &deadline)
}

fn build(request: &Request) -> Result<OutgoingRequest, Failure> {
    let headers = Fields::new();
    // Without its length a body goes out in chunks, which some servers refuse.
    let length = SecretString::new(request.body.reveal().len().to_string());
    let has_length = request.method == http::Method::Post || !request.body.reveal().is_empty();
    let length = has_length.then(|| ("content-length".to_owned(), length));
    for (name, value) in request.headers.iter().chain(&length) {
        headers
            .append(name, value.reveal().as_bytes())
            .map_err(|_| Failure::Forbidden(format!("the header {name} is not allowed")))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let method = match request.method {
        http::Method::Get => Method::Get,
        http::Method::Post => Method::Post,
        http::Method::Delete => Method::Delete,
    };
    let scheme = if request.url.is_https() {
        Scheme::Https
    } else {
        Scheme::Http
    };
    outgoing
        .set_method(&method)
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(request.url.authority())))
        .and_then(|()| outgoing.set_path_with_query(Some(&request.url.path_and_query())))
        .map_err(|()| not_sent("the URL is not one that the host can send to"))?;
    Ok(outgoing)
}

/// Writes the body. Where the other side takes no more of it, it is for the
/// response to say why: a server may answer before it has read everything, and a
/// host has no use for the body of a GET.
fn write(body: OutgoingBody, mut bytes: &[u8], deadline: &Deadline) -> Result<(), Failure> {
    let Ok(stream) = body.write() else {
        return Ok(());
    };
    while !bytes.is_empty() {
        match stream.check_write() {
            Ok(0) => deadline.wait(&stream.subscribe())?,
            Ok(room) => {
                let room = usize::try_from(room)
                    .unwrap_or(CHUNK)
                    .min(CHUNK)
                    .min(bytes.len());
                let (now, later) = bytes.split_at(room);
                if stream.write(now).is_err() {
                    return Ok(());
                }
                bytes = later;
            }
            Err(_) => return Ok(()),
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}

fn read(response: IncomingResponse, deadline: &Deadline) -> Result<Response, Failure> {
    let status = response.status();
    let headers = response.headers().entries();
    // What is not text is in no header that is looked at.
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| {
            let value = String::from_utf8(value).ok()?;
            Some((name.to_ascii_lowercase(), value))
        })
        .collect();
    let incoming = response
        .consume()
        .map_err(|()| in_doubt("the response has no body"))?;
    let stream = incoming
        .stream()
        .map_err(|()| in_doubt("the response has no body"))?;
    let mut body = Vec::new();
    loop {
        match stream.read(CHUNK as u64) {
            Ok(bytes) if bytes.is_empty() => deadline.wait(&stream.subscribe())?,
            Ok(bytes) => {
                body.extend_from_slice(&bytes);
                if body.len() > RESPONSE_LIMIT {
                    return Err(Failure::TooLarge);
                }
            }
            Err(StreamError::Closed) => break,
            Err(error) => {
                return Err(in_doubt(&format!(
                    "the response broke off: {}",
                    describe(&error)
                )));
            }
        }
    }
    let now = wall_clock::now();
    Ok(Response {
        status,
        headers,
        body,
        arrived_at: Timestamp::from_seconds(now.seconds)
            .plus_millis(u64::from(now.nanoseconds) / 1_000_000),
    })
}

/// When the exchange must be over, by the monotonic clock.
struct Deadline(Pollable);

impl Deadline {
    fn after(millis: u64) -> Self {
        let nanoseconds = millis.saturating_mul(1_000_000);
        Self(monotonic_clock::subscribe_duration(nanoseconds))
    }

    fn wait(&self, ready: &Pollable) -> Result<(), Failure> {
        let woken = poll(&[ready, &self.0]);
        if woken.contains(&0) {
            return Ok(());
        }
        Err(in_doubt("no answer within the timeout"))
    }
}

fn not_sent(cause: &str) -> Failure {
    Failure::NotSent(cause.to_owned())
}

fn in_doubt(cause: &str) -> Failure {
    Failure::InDoubt(cause.to_owned())
}

fn describe(error: &StreamError) -> String {
    match error {
        StreamError::Closed => "the connection was closed".to_owned(),
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
    }
}

/// Sorts the host's errors by whether anything was sent.
fn from_error_code(code: ErrorCode) -> Failure {
    match code {
        ErrorCode::DnsTimeout => not_sent("the host name could not be looked up in time"),
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
            not_sent("the host name is not known")
        }
        // RFC 9209 section 2.3: without a route it is not there either.
        ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => {
            not_sent("the server is not there")
        }
        ErrorCode::ConnectionRefused => not_sent("the connection was refused"),
        ErrorCode::ConnectionTimeout => not_sent("no connection within the timeout"),
        ErrorCode::ConnectionLimitReached => not_sent("too many connections are open"),
        ErrorCode::TlsProtocolError => not_sent("no TLS session could be made"),
        ErrorCode::TlsCertificateError => not_sent("the server's certificate is not trusted"),
        ErrorCode::TlsAlertReceived(_) => not_sent("the server refused the TLS session"),
        ErrorCode::DestinationIpProhibited => {
            Failure::Forbidden("the address is not allowed".to_owned())
        }
        ErrorCode::HttpRequestDenied => {
            Failure::Forbidden("the host does not let the request out".to_owned())
        }
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
            in_doubt("the connection broke off before the answer was complete")
        }
        ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => in_doubt("no answer within the timeout"),
        ErrorCode::HttpResponseBodySize(_) => Failure::TooLarge,
        ErrorCode::InternalError(Some(text)) => in_doubt(&text),
        _ => in_doubt("the exchange failed"),
    }
}
