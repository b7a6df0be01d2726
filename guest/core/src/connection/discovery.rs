//! Finding the authorization server: of an issuer (RFC 8414), of a resource (RFC
//! 9728); and registering a client there (RFC 7591). None of it needs a
//! connection.

use super::from_http_failure;
use super::sending::{answer, get};
use crate::challenge;
use crate::client_authentication::bearer;
use crate::config::DEFAULT_TIMEOUT_SECONDS;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, ViolationKind};
use crate::http;
use crate::json;
use crate::metadata::{self, Server};
use crate::platform::Platform;
use crate::resource;
use crate::secret::SecretString;
use serde_json::Value;

const TIMEOUT_MILLIS: u64 = DEFAULT_TIMEOUT_SECONDS as u64 * 1000;

/// Reads the first JSON object that is at one of several places, and where there is
/// none the first page: an application may answer everywhere with its own.
///
/// # Errors
/// Unavailable; `None`, where there is nothing.
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
async fn first_of(
    platform: &impl Platform,
    places: Vec<Endpoint>,
    timeout_millis: u64,
) -> Result<Option<http::Response>> {
    let (mut failure, mut page) = (None, None);
    for place in places {
        match platform.send(get(place.clone(), timeout_millis)).await {
            Ok(response) if response.status == 200 => {
                if is_object(&response) {
                    return Ok(Some(response));
                }
                page.get_or_insert(response);
            }
            // Where there is nothing the next place is tried.
            Ok(response) if response.status < 500 && response.status != 429 => {}
            Ok(response) => {
                failure = Some(Error::unavailable(format!(
                    "{place} answered with the status {}",
                    response.status
                )));
            }
            Err(error) => return Err(from_http_failure(&place, error)),
        }
    }
    failure.map_or(Ok(page), Err)
}

fn is_object(response: &http::Response) -> bool {
    json::parse_object(&response.body).is_ok()
}

/// The authorization server of an issuer, by its metadata; where it publishes none,
/// as it is by hand, if that is enough.
///
/// # Errors
/// Not configured, where the issuer is no URL; unavailable or a violation, where
/// the metadata cannot be had or believed.
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
pub(super) async fn discover(
    platform: &impl Platform,
    issuer: &str,
    by_hand: Option<Server>,
    timeout_millis: u64,
) -> Result<Server> {
    let url = given("issuer", issuer)?;
    let found = first_of(platform, metadata::discovery_urls(&url), timeout_millis).await?;
    if let Some(by_hand) = by_hand
        && !found.as_ref().is_some_and(is_object)
    {
        return Ok(by_hand);
    }
    let found = found.ok_or_else(|| {
        Error::violation(
            ViolationKind::Metadata,
            format!(
                "{issuer} has no metadata at the well-known places; name the endpoints by hand"
            ),
        )
    })?;
    metadata::parse(issuer, &found.body)
}

/// The metadata of the protected resource that a URL belongs to, as JSON: from
/// its challenge to a request without a token, else from the well-known places.
///
/// # Errors
/// Not configured, where the URL cannot be called; unavailable or a violation,
/// where the metadata cannot be had or believed.
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
pub async fn discover_resource(platform: &impl Platform, url: &str) -> Result<String> {
    let url = given("url", url)?;
    let response = platform.send(get(url.clone(), TIMEOUT_MILLIS)).await;
    let response = response.map_err(|failure| from_http_failure(&url, failure))?;
    let told = challenge::of(&response);
    let places = match challenge::parameter(&told, "resource_metadata") {
        Some(place) => vec![metadata::endpoint(
            "resource_metadata",
            &Some(place.to_owned()),
        )?],
        None => resource::metadata_urls(&url),
    };
    let found = first_of(platform, places, TIMEOUT_MILLIS).await?;
    let found = found.ok_or_else(|| {
        Error::violation(
            ViolationKind::Metadata,
            format!(
                "the resource at {} tells of no authorization server; name the issuer by hand",
                url.host()
            ),
        )
    })?;
    let metadata = resource::parse(&url, &found.body)?;
    Ok(json::text(&Value::Object(metadata)))
}

/// Registers a client at the authorization server of an issuer, with its metadata
/// as JSON, and gives the server's answer, which has the `client_id` and may have
/// secrets, as JSON. `initial_access_token` is for servers that do not register
/// just anybody.
///
/// # Errors
/// Unsupported, where the server has no registration endpoint; refused, with its
/// reason; not configured, where the metadata is no JSON object; else as for the
/// issuer's metadata.
#[cfg_attr(target_family = "wasm", tokenwell_blocking::blocking)]
pub async fn register_client(
    platform: &impl Platform,
    issuer: &str,
    client_metadata: &str,
    initial_access_token: Option<&SecretString>,
) -> Result<SecretString> {
    json::parse_object(client_metadata.as_bytes())
        .map_err(|what| Error::not_configured("client metadata", &what, "write one JSON object"))?;
    let server = discover(platform, issuer, None, TIMEOUT_MILLIS).await?;
    if server.registration_endpoint.is_none() {
        return Err(Error::unsupported(format!(
            "{issuer} registers no clients by itself; register this one on the server's own page"
        )));
    }
    let url = metadata::endpoint("registration_endpoint", &server.registration_endpoint)?;
    let mut request = get(url.clone(), TIMEOUT_MILLIS);
    request.method = http::Method::Post;
    request.body = SecretString::new(client_metadata);
    let json = SecretString::new("application/json");
    request.headers.push(("content-type".to_owned(), json));
    if let Some(token) = initial_access_token {
        let name = "authorization".to_owned();
        request.headers.push((name, bearer(token)));
        request.secrets.push(token.clone());
    }
    let secrets = request.secrets.clone();
    let response = platform.send(request).await;
    let response = response.map_err(|failure| from_http_failure(&url, failure))?;
    let registered = answer(&url, &response, &secrets)?;
    if registered
        .get("client_id")
        .and_then(Value::as_str)
        .is_none()
    {
        return Err(Error::violation(
            ViolationKind::Response,
            format!("{url} registered a client and did not say its client_id"),
        ));
    }
    Ok(SecretString::new(json::text(&Value::Object(registered))))
}

/// A URL that the caller has given.
fn given(name: &str, url: &str) -> Result<Endpoint> {
    let mend = "name an https URL, or http for this machine";
    Endpoint::parse(url).map_err(|wrong| Error::not_configured(name, wrong, mend))
}
