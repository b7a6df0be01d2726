//! The second real authorization server: PyPI's Authlib in a process of its own.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use ureq::Agent;

use crate::oidc_provider::{ClientKey, Decision, RecordedRequest};
use crate::part::Part;
use crate::process::Process;
use crate::{PATIENCE, workspace};

/// The user whom everyone here is.
const USER: &str = "alice";

/// An authorization server with the clients of `tests/servers/authlib/server.py`;
/// it ends when dropped.
#[derive(Debug)]
pub struct AuthlibServer {
    issuer: String,
    keys: BTreeMap<String, ClientKey>,
    agent: Agent,
    _process: Process,
}

impl AuthlibServer {
    /// Starts a server; absent where the machine is known to lack Python.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Option<Self> {
        if Part::Python.is_lacking() {
            return None;
        }
        let environment = workspace().join("target/servers/authlib");
        let python = if cfg!(windows) {
            environment.join("Scripts").join("python.exe")
        } else {
            environment.join("bin").join("python")
        };
        assert!(
            python.exists(),
            "PyPI's Authlib is not installed: run `cargo xtask test`, which makes {}",
            environment.display()
        );
        let mut command = Command::new(python);
        // `-B`: nothing is written beside the source.
        command.args(["-B", "server.py"]);
        command.current_dir(workspace().join("tests/servers/authlib"));
        let mut process = Process::start(&mut command);
        let line = process.next_line();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the server's first line is not JSON: {line}"));
        let issuer = ready["issuer"].as_str();
        let keys = serde_json::from_value(ready["keys"].clone());
        Some(Self {
            issuer: issuer.expect("the issuer in the first line").to_owned(),
            keys: keys.expect("the clients' keys in the first line"),
            agent: Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .proxy(None)
                .timeout_global(Some(PATIENCE))
                .build()
                .into(),
            _process: process,
        })
    }

    /// The issuer, which is also where everything is.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A URL of the server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    /// The private key of the client that signs by an algorithm (RFC 7518 section
    /// 3.1).
    ///
    /// # Panics
    /// Where there is none.
    pub fn client_key(&self, algorithm: &str) -> &ClientKey {
        self.keys
            .get(algorithm)
            .unwrap_or_else(|| panic!("no client signs by {algorithm}"))
    }

    /// The requests to one path so far, and how they were answered.
    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        let response = self.agent.get(self.url("/_test/requests")).call();
        let body = response.expect("the log").body_mut().read_to_string();
        let all: Vec<RecordedRequest> =
            serde_json::from_str(&body.expect("the log")).expect("the log in JSON");
        all.into_iter()
            .filter(|request| request.path == path)
            .collect()
    }

    /// What the server tells a resource of a token (RFC 7662), itself asked by the
    /// client `gateway`.
    ///
    /// # Panics
    /// Where it tells nothing.
    pub fn introspect(&self, token: &str) -> Value {
        let authorization = crate::oidc_provider::basic("gateway", "gateway-secret-b83e");
        let response = self
            .agent
            .post(self.url("/introspect"))
            .header("authorization", authorization)
            .send_form([("token", token)]);
        let body = response
            .expect("the introspection endpoint")
            .body_mut()
            .read_to_string();
        serde_json::from_str(&body.expect("a response")).expect("introspection answers with JSON")
    }

    /// Decides as the user at the authorization endpoint, and returns the redirect
    /// to the client.
    ///
    /// # Panics
    /// Where there is no redirect.
    pub fn decide(&self, authorization_url: &str, decision: Decision) -> String {
        let response = self.decided(authorization_url, &[], decision);
        let location = response.headers().get("location");
        let location = location.unwrap_or_else(|| panic!("no redirect: {}", response.status()));
        location.to_str().expect("a location in ASCII").to_owned()
    }

    /// Decides as the user whom a device showed that code.
    pub fn decide_for_device(&self, user_code: &str, decision: Decision) {
        let code = [("user_code", user_code)];
        self.decided(&self.url("/device"), &code, decision);
    }

    fn decided(
        &self,
        url: &str,
        more: &[(&str, &str)],
        decision: Decision,
    ) -> ureq::http::Response<ureq::Body> {
        let consent = match decision {
            Decision::Consent => "yes",
            Decision::Deny => "no",
        };
        let answers = [("user", USER), ("consent", consent)];
        self.agent
            .post(url)
            .send_form(answers.into_iter().chain(more.iter().copied()))
            .expect("the user's decision is heard")
    }
}
