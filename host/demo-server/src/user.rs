//! Somebody who says yes: what a person and a browser would do, over HTTP.

use std::io;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, LOCATION, SET_COOKIE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

/// Opens the page, signs in, allows, and returns where the browser is then
/// sent, without going there.
pub(crate) async fn consent(
    issuer: &str,
    user_name: &str,
    authorization_url: &str,
) -> io::Result<String> {
    let authority = issuer.trim_start_matches("http://");
    let target = authorization_url
        .strip_prefix(issuer)
        .filter(|target| target.starts_with('/'))
        .ok_or_else(|| io::Error::other("the authorization URL is not this server's"))?;
    let page = exchange(authority, Method::GET, target, None, String::new()).await?;
    if page.status.is_redirection() {
        return location(&page);
    }
    let form_token = between(&page.body, "name=\"form_token\" value=\"", "\"")
        .filter(|_| page.status.is_success())
        .ok_or_else(|| io::Error::other(format!("no page to sign in on, but {}", page.status)))?;
    let cookie = page
        .headers
        .get(SET_COOKIE)
        .and_then(|cookie| cookie.to_str().ok())
        .and_then(|cookie| cookie.split(';').next())
        .ok_or_else(|| io::Error::other("the page to sign in on set no cookie"))?;

    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("form_token", form_token)
        .append_pair("user", user_name)
        .append_pair("password", "any password")
        .append_pair("decision", "allow")
        .finish();
    let answer = exchange(authority, Method::POST, "/sign-in", Some(cookie), form).await?;
    location(&answer)
}

/// Goes where the browser has been sent; the status of the answer.
pub(crate) async fn follow(callback_url: &str) -> io::Result<u16> {
    let uri: Uri = callback_url.parse().map_err(io::Error::other)?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) if authority.port().is_some() => authority.as_str(),
        _ => return Err(io::Error::other("the callback URL is not on a local port")),
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let page = exchange(authority, Method::GET, target, None, String::new()).await?;
    Ok(page.status.as_u16())
}

fn location(page: &Page) -> io::Result<String> {
    page.headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no redirect came, but {}", page.status)))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

async fn exchange(
    authority: &str,
    method: Method,
    target: &str,
    cookie: Option<&str>,
    form: String,
) -> io::Result<Page> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let uri: Uri = target.parse().map_err(io::Error::other)?;
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header(HOST, authority);
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    if !form.is_empty() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let request = request
        .body(Full::new(Bytes::from(form)))
        .map_err(io::Error::other)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        // The connection ends when nobody can send on it any more.
        drop(sender);
        Ok::<_, hyper::Error>((head, body))
    };
    let (answer, _) = tokio::join!(exchange, connection);
    let (head, body) = answer.map_err(io::Error::other)?;
    Ok(Page {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
