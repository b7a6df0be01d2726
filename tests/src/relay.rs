//! What stands between a client and the token endpoint, and can strike at any
//! moment of an exchange.

use std::sync::{Arc, Mutex, PoisonError};

use crate::oidc_provider::OidcProvider;
use crate::scripted_server::{Answer, ReceivedRequest, ScriptedServer};

/// A moment of an exchange with the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The client has asked; the authorization server does not know yet.
    Asked,
    /// The server has acted; the client has not been answered.
    Answered,
}

type Strike = Box<dyn FnMut(Moment) + Send>;

/// Passes token requests on to a real authorization server.
pub struct Relay {
    server: ScriptedServer,
    strike: Arc<Mutex<Option<Strike>>>,
    acted: Arc<Mutex<usize>>,
}

impl Relay {
    /// Starts a relay.
    pub fn start(provider: &OidcProvider) -> Self {
        let server = ScriptedServer::start();
        let strike = Arc::new(Mutex::new(None::<Strike>));
        let acted = Arc::new(Mutex::new(0));
        let (striking, acting) = (Arc::clone(&strike), Arc::clone(&acted));
        let target = provider.url("/token");
        server.script("/token", move |request| {
            let struck = |moment| {
                let mut strike = striking.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(strike) = strike.as_mut() {
                    strike(moment);
                }
            };
            struck(Moment::Asked);
            let (status, body) = pass_on(&target, request);
            if status == 200 {
                *acting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            }
            struck(Moment::Answered);
            Answer::new(status, "application/json", body)
        });
        Self {
            server,
            strike,
            acted,
        }
    }

    /// What the client is to take for the token endpoint.
    pub fn token_endpoint(&self) -> String {
        self.server.url("/token")
    }

    /// Does this at each moment of the exchanges to come.
    pub fn at_each_moment(&self, strike: impl FnMut(Moment) + Send + 'static) {
        *self.strike.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(strike));
    }

    /// Lets the exchanges pass from now on.
    pub fn let_pass(&self) {
        *self.strike.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many token responses the server has given.
    pub fn acted(&self) -> usize {
        *self.acted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the server what the client asked, and gives its status and body.
fn pass_on(target: &str, request: &ReceivedRequest) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(crate::PATIENCE))
        .build()
        .into();
    let mut passed = agent.post(target);
    for name in ["authorization", "content-type", "accept"] {
        if let Some(value) = request.header(name) {
            passed = passed.header(name, value);
        }
    }
    let mut response = passed
        .send(request.body.as_slice())
        .expect("the authorization server answers");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string();
    (status, body.expect("the authorization server's answer"))
}
