//! The URLs that credentials may be sent to.
//!
//! This reads a strict subset of URLs, on purpose: what every parser on the way
//! understands alike. A general parser mends what is wrong (backslashes, tabs,
//! odd numbers for addresses), and where two mend differently a credential goes
//! astray; besides, one would cost the component a tenth of its size.

use std::fmt;

/// The URL of an endpoint that a credential may be sent to: `https`, or `http`
/// on loopback (RFC 9700 section 2.6, RFC 8252 section 8.3), without user
/// information and fragment (RFC 6749 sections 3.1 and 3.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    is_https: bool,
    authority: String,
    /// Without the port, an IPv6 address without its brackets.
    host: String,
    path: String,
    query: Option<String>,
}

impl Endpoint {
    /// Reads and checks a URL.
    ///
    /// # Errors
    /// What is wrong with it, as the second half of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither https nor http on loopback"),
        };
        if rest.contains('#') {
            return Err("contains a fragment");
        }
        if !rest.bytes().all(is_url_byte) {
            return Err("contains a character that must be percent-encoded");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if authority.contains('@') {
            return Err("contains a user name or password");
        }
        let authority = authority.to_ascii_lowercase();
        let host = host_of(&authority)?.to_owned();
        if !is_https && !is_loopback(&host) {
            return Err("is plain http beyond this machine");
        }
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        Ok(Self {
            is_https,
            authority,
            host,
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query,
        })
    }

    /// Reads and checks the server of a URL, whatever path and query are made of.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn server_of(text: &str) -> Result<Self, &'static str> {
        let start = text.find("://").map_or(0, |at| at + 3);
        let end = text[start..].find(['/', '?', '#']);
        Self::parse(&text[..end.map_or(text.len(), |end| start + end)])
    }

    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host with its port, as it was given.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path; `/` at least.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path with the query, as a request line has it.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The same server's URL with another path and no query.
    #[must_use]
    pub fn at(&self, path: String) -> Self {
        Self {
            path,
            query: None,
            ..self.clone()
        }
    }

    /// The same path and query on that other server.
    #[must_use]
    pub fn on_server_of(&self, other: &Self) -> Self {
        Self {
            path: self.path.clone(),
            query: self.query.clone(),
            ..other.clone()
        }
    }

    /// The same URL with more in its query.
    #[must_use]
    pub fn with_query(&self, more: &str) -> Self {
        let query = match &self.query {
            Some(query) if !query.is_empty() => format!("{query}&{more}"),
            _ => more.to_owned(),
        };
        Self {
            query: Some(query),
            ..self.clone()
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_https { "https://" } else { "http://" })?;
        formatter.write_str(&self.authority)?;
        formatter.write_str(&self.path_and_query())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What is wrong with a redirect URI, as the second half of a sentence (RFC
/// 6749 section 3.1.2, RFC 8252 section 7).
pub(crate) fn redirect_uri_problem(text: &str) -> Option<&'static str> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Some("is not a URL");
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Some("is not a URL");
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => Endpoint::parse(text).err(),
        "javascript" | "data" | "file" | "vbscript" | "blob" | "about" => {
            Some("has a scheme that no redirect can have")
        }
        _ if rest.contains('#') => Some("contains a fragment"),
        _ if !rest.bytes().all(is_url_byte) => {
            Some("contains a character that must be percent-encoded")
        }
        _ => None,
    }
}

/// Whether a redirect URI leads to this machine, where a listener can await the
/// redirect (RFC 8252 section 7.3).
pub fn is_of_this_machine(redirect_uri: &str) -> bool {
    // Plain http goes nowhere else.
    Endpoint::parse(redirect_uri).is_ok_and(|uri| !uri.is_https)
}

/// Whether such a redirect URI leaves the port to the listener.
pub fn lacks_port(redirect_uri: &str) -> bool {
    Endpoint::parse(redirect_uri)
        .is_ok_and(|uri| !uri.is_https && uri.authority.trim_matches(['[', ']']) == uri.host)
}

/// Whether a host stays on this machine (RFC 8252 sections 7.3 and 8.3).
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "::1" || is_ipv4(host) && host.starts_with("127.")
}

/// Four numbers up to 255, none with a leading zero, which some read as octal.
fn is_ipv4(host: &str) -> bool {
    let is_octet = |label: &str| {
        label.parse::<u8>().is_ok() && (label == "0" || !label.starts_with(['0', '+']))
    };
    host.split('.').all(is_octet) && host.split('.').count() == 4
}

/// Digits and colons: a server whose address it is not will not be there.
fn is_ipv6(host: &str) -> bool {
    host.contains(':')
        && host
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

/// The characters of RFC 3986 appendix A.
fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte)
}

fn host_of(authority: &str) -> Result<&str, &'static str> {
    let (host, port, is_host) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("names no host")?;
            let is_address = is_ipv6(host);
            (
                host,
                after.strip_prefix(':').or(after.is_empty().then_some("")),
                is_address,
            )
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            (host, Some(port), is_name_or_ipv4(host))
        }
    };
    if !is_host {
        return Err("names no host");
    }
    match port {
        Some("") if !authority.ends_with(':') => Ok(host),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
            .parse::<u16>()
            .map(|_| host)
            .map_err(|_| "names a port that there is not"),
        _ => Err("names a port that there is not"),
    }
}

/// A name whose last label could be a number is an address to some parsers and
/// a name to others; only one that is an address to all is taken.
fn is_name_or_ipv4(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    let ends_in_number = last.starts_with(|first: char| first.is_ascii_digit());
    name.split('.').all(is_label) && (!ends_in_number || is_ipv4(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    const GOOD: [&str; 10] = [
        "https://as.example/token",
        "https://as.example",
        "https://as.example:8443/token?tenant=1&x=%20",
        "https://AS.Example/Token",
        "https://192.0.2.1/token",
        "https://[2001:db8::1]:444/token",
        "http://127.0.0.1:9400/token",
        "http://127.8.9.10/token",
        "http://[::1]:9400/token",
        "http://localhost/token",
    ];

    #[test]
    fn https_and_loopback_http_are_endpoints() {
        for url in GOOD {
            assert!(Endpoint::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn everything_else_is_no_endpoint() {
        for url in [
            "",
            "as.example/token",
            "//as.example/token",
            "https:as.example/token",
            "https:/as.example/token",
            "http://as.example/token",
            "http://127.0.0.1.example/token",
            "http://localhost.example/token",
            "http://localhost@as.example/token",
            "http://127.1/token",
            "http://2130706433/token",
            "http://0x7f.0.0.1/token",
            "https://1.2.3/token",
            "https://user:pw@as.example/token",
            "https://user@as.example/token",
            "https://as.example/token#x",
            "https://as.example\\@evil.example/",
            "https://as.example/to ken",
            "https://as.example/to\nken",
            "https://as.exämple/token",
            "https://as..example/token",
            "https://as.example:99999/token",
            "https://as.example:/token",
            "https://as.example:8x/token",
            "https://[::1/token",
            "https://[::1]x/token",
            "https://[nonsense]/token",
            "file:///etc/passwd",
            "data:text/plain,x",
            "javascript:alert(1)",
            "ftp://as.example/",
            "https://",
            "https:///token",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_general_parser_reads_an_endpoint_the_same_way() {
        for text in GOOD {
            let (ours, theirs) = (
                Endpoint::parse(text).expect(text),
                Url::parse(text).expect(text),
            );
            let host = theirs.host_str().expect(text);
            assert_eq!(ours.host(), host.trim_matches(['[', ']']), "{text}");
            assert_eq!(ours.is_https(), theirs.scheme() == "https", "{text}");
            assert_eq!(ours.path(), theirs.path(), "{text}");
            assert_eq!(ours.to_string(), theirs.as_str(), "{text}");
        }
    }

    #[test]
    fn a_query_is_added_to_the_one_that_is_there() {
        let added = |url| {
            Endpoint::parse(url)
                .expect(url)
                .with_query("a=b")
                .to_string()
        };
        assert_eq!(added("https://as.example/x"), "https://as.example/x?a=b");
        assert_eq!(added("https://as.example/x?"), "https://as.example/x?a=b");
        assert_eq!(
            added("https://as.example/x?y=z"),
            "https://as.example/x?y=z&a=b"
        );
    }

    /// Shows: RFC 8252.
    #[test]
    fn only_plain_http_on_the_loopback_can_be_listened_on() {
        for (uri, has_port) in [
            ("http://127.0.0.1/cb", false),
            ("http://localhost/cb", false),
            ("http://[::1]/", false),
            ("http://127.0.0.1:80/cb", true),
            ("http://127.9.9.9:8080/cb", true),
            ("http://[::1]:9/", true),
        ] {
            assert!(is_of_this_machine(uri), "{uri}");
            assert_eq!(lacks_port(uri), !has_port, "{uri}");
        }
        for uri in [
            "https://127.0.0.1/cb",
            "https://app.example/cb",
            "com.example.app:/cb",
            "http://10.0.0.1/",
            "x",
            "",
        ] {
            assert!(!is_of_this_machine(uri), "{uri}");
            assert!(!lacks_port(uri), "{uri}");
        }
    }

    /// Shows: RFC 8252.
    #[test]
    fn a_redirect_uri_may_have_the_applications_own_scheme() {
        assert_eq!(redirect_uri_problem("com.example.app:/cb"), None);
        assert_eq!(redirect_uri_problem("http://127.0.0.1/cb"), None);
        for uri in [
            "https://app.example/cb#x",
            "com.example.app:/cb#x",
            "javascript:alert(1)",
            "http://app.example/cb",
            "1x:/cb",
            "/cb",
        ] {
            assert!(redirect_uri_problem(uri).is_some(), "{uri}");
        }
    }

    #[test]
    fn what_only_looks_like_this_machine_is_no_endpoint() {
        for url in [
            "http://notlocalhost/",
            "http://as.localhost/",
            "http://127.0.0.010/",
            "http://127.0.0.+1/",
            "https://010.0.0.1/",
            "https://user:8@as.example/",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_scheme_that_is_not_an_applications_own_takes_no_redirect() {
        for uri in [
            "data:x",
            "FILE:///x",
            "vbscript:x",
            "blob:x",
            "about:blank",
            "com.example.app:/c b",
            "com.example.app:/c\nb",
        ] {
            assert!(redirect_uri_problem(uri).is_some(), "{uri}");
        }
    }
}
