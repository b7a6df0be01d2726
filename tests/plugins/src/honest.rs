//! The honest half: it posts what it has, and asks for a token where it was lent
//! a connection.

use crate::Plugin;
use crate::bindings::exports::tokenwell::test_plugins::honest::Guest;
use crate::bindings::tokenwell::oauth2::connections::{Connection, parse_config};
use crate::bindings::tokenwell::oauth2::types::{ConnectionState, Error, ErrorKind, TokenOptions};
use crate::bindings::tokenwell::test_plugins::types::Answer;
use crate::bindings::wasi::http::types::{Method, Scheme};
use crate::http::{self, Request};

impl Guest for Plugin {
    fn post(url: String, text: String) -> Result<Answer, String> {
        let (scheme, rest) = url.split_once("://").ok_or("that is no URL")?;
        let at = rest.find('/').ok_or("that has no path")?;
        let (authority, path) = rest.split_at(at);
        http::send(&Request {
            method: Method::Post,
            scheme: if scheme == "https" {
                Scheme::Https
            } else {
                Scheme::Http
            },
            body: &text,
            ..Request::get(authority, path)
        })
    }

    fn token(connection: String) -> Result<String, String> {
        let connection = open(&connection)?;
        let status = connection.status().map_err(told)?;
        if let ConnectionState::NotConfigured(_) = status.state {
            return Err("the connection is not configured".to_owned());
        }
        let token = connection.token(&OF_ANY_AGE).map_err(told)?;
        Ok(token.access_token)
    }

    fn authorization(connection: String, url: String) -> Result<String, String> {
        let connection = open(&connection)?;
        let headers = connection
            .authorization_headers("GET", &url, &OF_ANY_AGE, None)
            .map_err(told)?;
        let authorization = headers
            .into_iter()
            .find(|header| header.name.eq_ignore_ascii_case("authorization"));
        Ok(authorization.ok_or("there is no such header")?.value)
    }
}

pub const OF_ANY_AGE: TokenOptions = TokenOptions {
    min_validity_seconds: None,
    rejected: None,
};

/// Opens a connection with an empty config: the config is the platform's.
pub fn open(name: &str) -> Result<Connection, String> {
    let config = parse_config("{}").map_err(|_| "the empty config is refused")?;
    Connection::open(name, &config).map_err(told)
}

/// An error in words. `Debug` says nothing in a component.
pub fn told(error: Error) -> String {
    let forbidden = matches!(error.kind, ErrorKind::Forbidden);
    let kind = if forbidden { "forbidden" } else { "failed" };
    format!("{kind}: {}", error.message)
}
