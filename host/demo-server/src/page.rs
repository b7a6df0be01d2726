//! What a person sees.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::redirect_uri;
use crate::scope::Scope;

const STYLE: &str = include_str!("page.css");

const WELL: &str = r#"<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M12 3s4 4.2 4 7a4 4 0 0 1-8 0c0-2.8 4-7 4-7Z" fill="currentColor" fill-opacity=".18"/><path d="M4 15c0 3.3 3.6 6 8 6s8-2.7 8-6"/><path d="M2.5 15h3M18.5 15h3"/></svg>"#;
const TICK: &str = r#"<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="m5 12.5 4.5 4.5L19 7.5"/></svg>"#;

/// A page with the policy it is sent under.
pub(crate) struct Page {
    pub(crate) html: String,
    pub(crate) content_security_policy: String,
}

/// The page on which the user signs in and consents.
pub(crate) struct SignIn<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_name: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) scope: &'a Scope,
    /// The one user there is.
    pub(crate) user_name: &'a str,
    /// What the field for it holds at first.
    pub(crate) typed_user_name: &'a str,
    pub(crate) form_token: &'a str,
    /// What was wrong with the last try.
    pub(crate) problem: Option<&'a str>,
}

impl SignIn<'_> {
    pub(crate) fn page(&self) -> Page {
        let Self {
            client_name,
            form_token,
            ..
        } = self;
        let client = Escaped(client_name);
        let user = Escaped(self.user_name);
        let typed = Escaped(self.typed_user_name);
        let (alarm, invalid) = match self.problem {
            Some(problem) => (
                format!(
                    "<p class=\"alarm\" id=\"problem\" role=\"alert\">{}</p>\n",
                    Escaped(problem)
                ),
                r#" aria-invalid="true""#,
            ),
            None => (String::new(), ""),
        };
        let described_by = if invalid.is_empty() {
            "hint"
        } else {
            "problem hint"
        };
        let mut wishes = String::new();
        for token in self.scope.tokens() {
            let _ = writeln!(wishes, "<li>{TICK}<span>{}</span></li>", token.meaning());
        }
        // Whoever is known by name already goes on with the password.
        let (name_focus, password_focus) =
            if self.typed_user_name.is_empty() || self.problem.is_some() {
                (" autofocus", "")
            } else {
                ("", " autofocus")
            };
        let destination = redirect_uri::origin(self.redirect_uri);
        let body = format!(
            r#"<h1>{client} would like to connect to your account</h1>
<p>If you allow it, it can:</p>
<ul>
{wishes}</ul>
{alarm}<form method="post" action="/sign-in">
<input type="hidden" name="form_token" value="{form_token}">
<label for="user">User name</label>
<input id="user" name="user" value="{typed}" autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="100" aria-describedby="{described_by}"{invalid}{name_focus}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="1000" aria-describedby="{described_by}"{invalid}{password_focus}>
<p class="hint" id="hint">The user is <strong>{user}</strong>; any password will do.</p>
<div class="choice">
<button class="allow" name="decision" value="allow">Sign in and allow</button>
<button name="decision" value="deny" formnovalidate>Deny</button>
</div>
</form>"#
        );
        page(
            &format!("Connect {}", self.client_name),
            &body,
            &format!(
                "A demonstration on this computer: {}. From here you go back to {}.",
                self.issuer, destination
            ),
            // Chromium holds the redirect that answers a form to this too.
            &format!("form-action 'self' {destination}"),
        )
    }
}

/// The page for a request that may not be answered with a redirect (RFC 6749
/// section 4.1.2.1).
pub(crate) fn refused(issuer: &str, reason: &str) -> Page {
    page(
        "Not possible",
        &format!(
            "<h1>This request cannot be answered</h1>\n<p class=\"alarm\" role=\"alert\">{}</p>\n\
             <p>Nothing has been granted. Go back to the program that sent you here and start again.</p>",
            Escaped(reason)
        ),
        &format!("A demonstration on this computer: {issuer}."),
        "form-action 'none'",
    )
}

fn page(title: &str, body: &str, footer: &str, form_action: &str) -> Page {
    let (title, footer) = (Escaped(title), Escaped(footer));
    let html = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Demo sign-in</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>{WELL}<span>Demo sign-in</span></header>
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"#
    );
    let style = STANDARD.encode(Sha256::digest(STYLE));
    Page {
        html,
        content_security_policy: format!(
            "default-src 'none'; style-src 'sha256-{style}'; {form_action}; \
             base-uri 'none'; frame-ancestors 'none'"
        ),
    }
}

/// Text that can stand in an element or in a quoted attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}
