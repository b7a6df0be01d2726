//! The cookies in a server's responses. None is ever kept or sent; a cookie that
//! a browser would refuse tells of a server, or of something between, that is not
//! set up as it should be.

use http::header::SET_COOKIE;
use http::uri::Scheme;
use http::{HeaderMap, Uri};

/// The longest name and value together (RFC 6265 section 6.1), in bytes.
const LONGEST: usize = 4096;

/// What is wrong with the cookies of a response, a clause each.
pub(super) fn violations(uri: &Uri, headers: &HeaderMap) -> Vec<&'static str> {
    let cookies = headers.get_all(SET_COOKIE).iter();
    cookies
        .filter_map(|header| violation(uri, &String::from_utf8_lossy(header.as_bytes())))
        .collect()
}

/// What is wrong with a cookie that a server sets (RFC 6265 section 5.3 and its
/// successor's prefixes), without its value.
fn violation(uri: &Uri, set_cookie: &str) -> Option<&'static str> {
    let mut parts = set_cookie.split(';');
    let pair = parts.next().unwrap_or_default();
    let Some((name, _)) = pair
        .split_once('=')
        .filter(|(name, _)| !name.trim().is_empty())
    else {
        return Some("has no name");
    };
    let name = name.trim();
    if pair.len() > LONGEST {
        return Some("is longer than 4096 bytes");
    }
    let attribute = |wanted: &str| {
        let mut all = parts
            .clone()
            .map(|part| part.split_once('=').unwrap_or((part, "")));
        all.rfind(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    let secure = attribute("secure").is_some();
    let host = uri.host().unwrap_or_default();
    if secure && uri.scheme() != Some(&Scheme::HTTPS) {
        return Some("is for https alone, and comes by http");
    }
    if let Some(domain) = attribute("domain").filter(|domain| !domain.is_empty()) {
        if !covers(domain, host) {
            return Some("is for another domain");
        }
        if !domain.trim_start_matches('.').contains('.') && !domain.eq_ignore_ascii_case(host) {
            return Some("is for a whole top-level domain");
        }
    }
    if attribute("samesite").is_some_and(|value| value.eq_ignore_ascii_case("none")) && !secure {
        return Some("is for other sites, and not for https alone");
    }
    if name.starts_with("__Secure-") && !secure {
        return Some("has a name for https alone, and is not");
    }
    let is_of_host = secure && attribute("domain").is_none() && attribute("path") == Some("/");
    if name.starts_with("__Host-") && !is_of_host {
        return Some("has a name for one host alone, and is not");
    }
    None
}

/// Whether a cookie's domain covers a host (RFC 6265 section 5.1.3).
fn covers(domain: &str, host: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    host == domain
        || host
            .strip_suffix(&domain)
            .is_some_and(|rest| rest.ends_with('.') && host.parse::<std::net::IpAddr>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(set_cookie: &str) -> Option<&'static str> {
        violation(
            &Uri::from_static("https://login.example.com/token"),
            set_cookie,
        )
    }

    #[test]
    fn a_cookie_that_a_browser_would_take_is_in_order() {
        for cookie in [
            "sid=1",
            "sid=1; Path=/; HttpOnly; Secure; SameSite=Lax",
            "sid=1; Domain=example.com",
            "sid=1; Domain=.login.example.com; Secure; SameSite=None",
            "__Host-sid=1; Secure; Path=/",
            "__Secure-sid=; Secure; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            assert_eq!(judged(cookie), None, "{cookie}");
        }
    }

    #[test]
    fn a_cookie_that_a_browser_would_refuse_is_told() {
        for cookie in [
            "",
            "=value",
            "just-text",
            "sid=1; Domain=other.example",
            "sid=1; Domain=gin.example.com",
            "sid=1; Domain=com",
            "sid=1; SameSite=None",
            "__Secure-sid=1",
            "__Host-sid=1; Secure; Path=/; Domain=login.example.com",
            "__Host-sid=1; Secure",
        ] {
            assert!(judged(cookie).is_some(), "{cookie}");
        }
        let long = format!("sid={}", "x".repeat(LONGEST));
        assert!(judged(&long).is_some());
        let plain = Uri::from_static("http://127.0.0.1/token");
        assert!(violation(&plain, "sid=1; Secure").is_some());
    }

    #[test]
    fn what_is_told_leaves_out_the_value() {
        let what = judged("sid=hunter2; Domain=other.example").unwrap();
        assert!(!what.contains("hunter2"));
    }
}
