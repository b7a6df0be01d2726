//! What a resource server asks for: the `WWW-Authenticate` header (RFC 9110
//! section 11.6.1).

use crate::http::Response;

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Debug, PartialEq)]
pub struct Challenge {
    /// The scheme, such as `bearer`.
    pub scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; of one that is there twice the last.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut named = self.parameters.iter().rev();
        let found = named.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the token itself is refused (RFC 6750 section 3.1).
    pub fn refuses_token(&self) -> bool {
        self.parameter("error") == Some("invalid_token")
    }

    /// Whether a proof is refused for want of the server's nonce (RFC 9449 section
    /// 9).
    pub fn wants_nonce(&self) -> bool {
        self.scheme == "dpop" && self.parameter("error") == Some("use_dpop_nonce")
    }
}

/// The challenges of a response, from each of its headers that is not malformed.
pub(crate) fn of(response: &Response) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for (name, value) in &response.headers {
        if name == "www-authenticate" {
            challenges.append(&mut read(value));
        }
    }
    challenges
}

/// The value of a parameter, whichever challenge has it.
pub(crate) fn parameter<'a>(challenges: &'a [Challenge], name: &str) -> Option<&'a str> {
    challenges.iter().find_map(|one| one.parameter(name))
}

/// The challenges of a `WWW-Authenticate` header; none, where it is malformed.
pub fn read(header: &str) -> Vec<Challenge> {
    parse(header).unwrap_or_default()
}

fn parse(header: &str) -> Option<Vec<Challenge>> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        let unread = rest.trim_start_matches([' ', '\t', ',']);
        let is_separated = rest[..rest.len() - unread.len()].contains(',');
        if unread.is_empty() {
            return Some(challenges);
        }
        let (name, after) = word(unread);
        if name.is_empty() {
            return None;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        rest = match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let value = value.trim_start_matches([' ', '\t']);
                let (text, after) = match value.strip_prefix('"') {
                    Some(quoted) => unquoted(quoted)?,
                    None => {
                        let (text, after) = word(value);
                        (text.to_owned(), after)
                    }
                };
                // Without a value it is the padding of credentials in one word.
                if text.is_empty() && !value.starts_with('"') {
                    value.trim_start_matches('=')
                } else {
                    challenge.parameters.push((name.to_ascii_lowercase(), text));
                    after
                }
            }
            (Some(_), None) => return None,
            // A word right after the scheme is its credentials in one word,
            // which no scheme that matters here has.
            (None, Some(challenge)) if !is_separated && challenge.parameters.is_empty() => after,
            (None, last) if last.is_none() || is_separated => {
                challenges.push(Challenge {
                    scheme: name.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
                after
            }
            _ => return None,
        };
        if !rest.is_empty() && !rest.starts_with([' ', '\t', ',']) {
            return None;
        }
    }
}

/// The characters of a token, and those of credentials in one word.
fn word(text: &str) -> (&str, &str) {
    let is_in_word = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
    let end = text.bytes().position(|byte| !is_in_word(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// The text of a quoted string whose first quote is read, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    /// The challenges of these headers.
    fn of_headers(headers: &[&str]) -> Vec<Challenge> {
        let named = |value: &&str| ("www-authenticate".to_owned(), (*value).to_owned());
        of(&Response {
            status: 401,
            headers: headers.iter().map(named).collect(),
            body: Vec::new(),
            arrived_at: Timestamp(0),
        })
    }

    /// The challenges as `scheme name=value …`, each.
    fn told(header: &str) -> Vec<String> {
        let challenges = of_headers(&[header]);
        let texts = challenges.iter().map(|challenge| {
            let parameters = challenge.parameters.iter();
            let texts = parameters.map(|(name, value)| format!(" {name}={value}"));
            format!("{}{}", challenge.scheme, texts.collect::<String>())
        });
        texts.collect()
    }

    #[test]
    fn a_resource_server_refuses_the_token_or_wants_its_nonce() {
        for (header, refuses_token, wants_nonce) in [
            (r#"Bearer error="invalid_token""#, true, false),
            ("Bearer realm=x, error = invalid_token", true, false),
            (r#"Bearer error="insufficient_scope""#, false, false),
            (r#"DPoP error="use_dpop_nonce""#, false, true),
            (r#"Bearer error="use_dpop_nonce""#, false, false),
            ("Bearer", false, false),
        ] {
            let challenges = super::read(header);
            let any = |is: fn(&Challenge) -> bool| challenges.iter().any(is);
            assert_eq!(any(Challenge::refuses_token), refuses_token, "{header}");
            assert_eq!(any(Challenge::wants_nonce), wants_nonce, "{header}");
        }
    }

    #[test]
    fn a_challenge_is_a_scheme_with_parameters() {
        assert_eq!(told("Bearer"), ["bearer"]);
        // RFC 6750 section 3.
        assert_eq!(
            told(
                r#"Bearer realm="example", error="invalid_token", error_description="The access token expired""#
            ),
            ["bearer realm=example error=invalid_token error_description=The access token expired"]
        );
        // RFC 9728 section 5.1.
        assert_eq!(
            parameter(
                &of_headers(&[
                    r#"Bearer resource_metadata="https://resource.example.com/.well-known/oauth-protected-resource""#
                ]),
                "resource_metadata"
            ),
            Some("https://resource.example.com/.well-known/oauth-protected-resource")
        );
    }

    #[test]
    fn names_are_read_in_either_case_and_with_blanks_about_the_sign() {
        assert_eq!(
            told("DPOP  Error = \"a\" ,ALGS=ES256"),
            ["dpop error=a algs=ES256"]
        );
    }

    #[test]
    fn several_challenges_are_told_apart() {
        assert_eq!(
            told(
                r#"Basic realm="a, b=c", Bearer, DPoP algs="ES256 PS256", Negotiate YWI=, Bearer x=y"#
            ),
            [
                "basic realm=a, b=c",
                "bearer",
                "dpop algs=ES256 PS256",
                "negotiate",
                "bearer x=y"
            ]
        );
    }

    #[test]
    fn a_quoted_text_may_quote() {
        assert_eq!(
            told(r#"Bearer a="say \"\\\" twice""#),
            [r#"bearer a=say "\" twice"#]
        );
    }

    #[test]
    fn empty_elements_are_passed_over() {
        assert_eq!(told(", Bearer a=b,, ,c=\"\","), ["bearer a=b c="]);
        assert_eq!(told(""), Vec::<String>::new());
        assert_eq!(told(" ,, "), Vec::<String>::new());
    }

    #[test]
    fn the_last_of_two_parameters_counts() {
        let challenges = of_headers(&["Bearer a=b, a=c"]);
        assert_eq!(parameter(&challenges, "a"), Some("c"));
    }

    #[test]
    fn the_challenges_of_every_header_count_but_of_a_malformed_one() {
        let challenges = of_headers(&["Bearer a=b", "error=\"x\"", "DPoP c=d"]);
        assert_eq!(parameter(&challenges, "error"), None);
        assert_eq!(parameter(&challenges, "a"), Some("b"));
        assert_eq!(parameter(&challenges, "c"), Some("d"));
    }

    #[test]
    fn what_is_malformed_is_no_challenge() {
        for header in [
            "error=\"x\"",
            "Bearer a=\"open",
            "Bearer a=\"open\\\"",
            "Bearer a\"b\"",
            "Bearer a=b ???",
            "Bearer a=b c d",
            "\u{e9}",
            "Bearer a=\"b\"c",
        ] {
            assert_eq!(told(header), Vec::<String>::new(), "{header}");
        }
    }
}
