//! `request`: one HTTP request with the connection's token.

use std::io::{self, Read};

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use serde_json::{Map, Value, json};
use tokenwell::Error;

use super::document::ConnectionName;
use super::failure::Failure;
use super::{Session, output};

/// What `request` can be told.
#[derive(Args)]
#[command(after_help = "\
The token is renewed first where needed, and once more if the server refuses it as invalid. It is sent over https or to
this machine only, and redirects are not followed. The answer's body goes to standard output; any answer is a success
unless --fail is given.

Examples:
  tokenwell request shop https://api.example.com/orders
  tokenwell request shop -i -X DELETE https://api.example.com/orders/7
  tokenwell request shop -H 'Content-Type: application/json' -d '{\"sku\": 1}' https://api.example.com/orders
  tokenwell request shop -d @order.xml -H 'Content-Type: application/xml' https://api.example.com/orders")]
pub struct RequestArgs {
    /// The connection
    name: ConnectionName,
    /// Where to
    #[arg(value_parser = whole_url)]
    url: http::Uri,
    /// The method [default: GET, or POST with data]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// A header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; @FILE takes it from a file, @- from standard input
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,
    /// Print the status line and the headers of the answer too
    #[arg(short, long, conflicts_with = "json")]
    include: bool,
    /// Exit code 5 if the answer's status is 400 or above
    #[arg(short, long)]
    fail: bool,
}

fn whole_url(text: &str) -> Result<http::Uri, String> {
    let url: Option<http::Uri> = text.parse().ok();
    url.filter(|url| matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some())
        .ok_or_else(|| "write it whole, with https:// before it".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| "that is not the name of a header")?;
    if name == AUTHORIZATION {
        return Err("the connection sends `Authorization` itself".into());
    }
    let value = value
        .trim()
        .parse()
        .map_err(|_| "that is not the value of a header")?;
    Ok((name, value))
}

/// Sends the request and prints the answer.
///
/// # Errors
/// Whatever keeps the request from being answered; with `--fail` an answer of
/// 400 or above.
pub async fn run(session: &Session, args: RequestArgs) -> Result<u8, Failure> {
    let fail = args.fail;
    let include = args.include;
    let name = args.name.clone();
    let request = args.into_request(read)?;
    let host = session.host()?;
    let connection = session.open(&host, &name).await?;
    let subject = session.subject(&name);
    let subject = subject.with_grant(&connection.config().grant);
    let is_plain = request.uri().scheme_str() == Some("http");
    let response = connection.send(request).await.map_err(|error| {
        let is_denied = is_plain && matches!(error, Error::Forbidden(_));
        let failure = Failure::of(error, Some(&subject));
        if is_denied {
            return failure.mend("Write https:// in place of http://.");
        }
        failure
    })?;
    if session.json {
        output::print_json(&response_json(&response))?;
    } else {
        if include {
            output::print_bytes(&head(&response))?;
        }
        output::print_bytes(response.body())?;
    }
    let status = response.status();
    if fail && (status.is_client_error() || status.is_server_error()) {
        return Err(Failure::http_status(status));
    }
    Ok(0)
}

impl RequestArgs {
    fn into_request(
        self,
        read: impl FnOnce(&str) -> Result<Bytes, Failure>,
    ) -> Result<Request<Bytes>, Failure> {
        let body = match self.data {
            Some(data) => Some(match data.strip_prefix('@') {
                Some(source) => read(source)?,
                None => Bytes::from(data),
            }),
            None => None,
        };
        let fallback = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        let mut request = Request::new(body.unwrap_or_default());
        *request.method_mut() = self.method.unwrap_or(fallback);
        *request.uri_mut() = self.url;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn read(source: &str) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    let outcome = match source {
        "-" => io::stdin().read_to_end(&mut body).map(|_| body),
        file => std::fs::read(file),
    };
    outcome
        .map(Bytes::from)
        .map_err(|error| Failure::usage(format!("cannot read the body from {source}: {error}")))
}

/// Status line and headers as they are on the wire.
fn head(response: &Response<Bytes>) -> Vec<u8> {
    let mut head = format!("{:?} {}\r\n", response.version(), response.status()).into_bytes();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The answer as JSON: a body that is JSON becomes part of it, text a string,
/// anything else Base64.
fn response_json(response: &Response<Bytes>) -> Value {
    let mut headers = Map::new();
    for name in response.headers().keys() {
        let values: Vec<String> = response
            .headers()
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        headers.insert(name.as_str().into(), values.join(", ").into());
    }
    let mut value = json!({"status": response.status().as_u16(), "headers": headers});
    let (field, body) = match std::str::from_utf8(response.body()) {
        Ok(text) => (
            "body",
            serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        ),
        Err(_) => {
            use base64::Engine;
            (
                "body_base64",
                base64::engine::general_purpose::STANDARD
                    .encode(response.body())
                    .into(),
            )
        }
    };
    value[field] = body;
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        request: RequestArgs,
        #[arg(long)]
        json: bool,
    }

    fn request(arguments: &[&str]) -> Request<Bytes> {
        let all = ["request", "shop", "https://api.example/x"]
            .into_iter()
            .chain(arguments.iter().copied());
        let args = Only::try_parse_from(all).unwrap().request;
        args.into_request(|source| Ok(Bytes::from(format!("content of {source}"))))
            .unwrap()
    }

    #[test]
    fn without_data_it_gets_and_with_data_it_posts_a_form() {
        assert_eq!(request(&[]).method(), Method::GET);
        let posted = request(&["-d", "a=b"]);
        assert_eq!(posted.method(), Method::POST);
        assert_eq!(
            posted.headers()[CONTENT_TYPE],
            "application/x-www-form-urlencoded"
        );
        assert_eq!(posted.body(), "a=b");
    }

    #[test]
    fn method_and_content_type_may_be_chosen() {
        let put = request(&[
            "-X",
            "PUT",
            "-d",
            "@file.json",
            "-H",
            "Content-Type: application/json",
        ]);
        assert_eq!(put.method(), Method::PUT);
        assert_eq!(
            put.headers()
                .get_all(CONTENT_TYPE)
                .iter()
                .collect::<Vec<_>>(),
            ["application/json"]
        );
        assert_eq!(put.body(), "content of file.json");
    }

    #[test]
    fn an_authorization_header_of_ones_own_is_refused() {
        for text in [
            "Authorization: Basic x",
            "authorization:Bearer y",
            "no colon",
            "bad name: x",
        ] {
            assert!(header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_as_json_has_its_body_in_the_form_that_fits() {
        let answer = |body: &'static [u8]| response_json(&Response::new(Bytes::from_static(body)));
        assert_eq!(answer(b"{\"a\": 1}")["body"], json!({"a": 1}));
        assert_eq!(answer(b"<p>")["body"], "<p>");
        assert_eq!(answer(&[0xff, 0xfe])["body_base64"], "//4=");
        assert_eq!(answer(b"")["status"], 200);
    }

    #[test]
    fn the_head_of_an_answer_is_printed_as_on_the_wire() {
        let mut answer = Response::new(Bytes::new());
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(
            head(&answer),
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
        );
    }
}
