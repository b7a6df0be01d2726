//! The redirect listener hears others beside the answer that is awaited.

use super::*;
use std::cell::RefCell;

/// A user whose browser is not alone: others come to the listener first.
struct Crowd {
    world: Rc<World>,
    /// What comes, the last one first.
    coming: RefCell<Vec<String>>,
    told: RefCell<Vec<Outcome>>,
    /// The answer to another authorization, which comes first.
    foreign: Option<String>,
    /// Whether the user's answer comes from another issuer before.
    is_mixed_up: bool,
}

impl Crowd {
    fn of(world: &Rc<World>) -> Self {
        Self {
            world: Rc::clone(world),
            coming: RefCell::default(),
            told: RefCell::default(),
            foreign: None,
            is_mixed_up: false,
        }
    }

    fn authorize(&self, connection: &Crm) {
        let options = AuthorizationOptions::default();
        run(connection.authorize(&self, &options, 60)).expect("authorized");
        assert!(matches!(
            self.told.borrow().as_slice(),
            [Outcome::Refused(_), Outcome::Authorized]
        ));
    }
}

struct Came<'a>(&'a Crowd, String);

impl Arrival for Came<'_> {
    fn arrived(&self) -> Arrived {
        Arrived::Url(self.1.clone())
    }

    async fn respond(&self, outcome: Outcome) {
        self.0.told.borrow_mut().push(outcome);
    }
}

impl<'a> Listener for &'a Crowd {
    type Arrival = Came<'a>;

    fn redirect_uri(&self) -> String {
        "http://127.0.0.1:7/oauth2".to_owned()
    }

    async fn next(&self, wait: u64) -> std::result::Result<Option<Came<'a>>, UserAgentError> {
        let next = self.coming.borrow_mut().pop();
        if next.is_none() {
            self.world.pass(wait / 1000);
        }
        Ok(next.map(|query| Came(self, format!("{}?{query}", self.redirect_uri()))))
    }
}

impl<'a> UserAgent for &'a Crowd {
    type Listener = &'a Crowd;

    async fn listen(
        &self,
        _: &str,
        _: Option<&str>,
    ) -> std::result::Result<&'a Crowd, UserAgentError> {
        Ok(self)
    }

    async fn open_url(&self, _: &str, url: &str) -> std::result::Result<(), UserAgentError> {
        let answer = self.world.consent(url);
        let mut coming = self.coming.borrow_mut();
        coming.push(answer.clone());
        if self.is_mixed_up {
            coming.push(answer.replace("as.example", "evil.example"));
        }
        coming.extend(self.foreign.clone());
        Ok(())
    }

    async fn show_device_code(
        &self,
        _: &str,
        _: &DeviceAuthorization,
    ) -> std::result::Result<(), UserAgentError> {
        Ok(())
    }
}

#[test]
fn the_answer_to_another_authorization_is_refused_and_left_to_its_own() {
    let world = World::with_metadata();
    let connection = world.open(requests::CONFIG);
    let other = world.consent(&begin_authorization(&connection).authorization_url);
    let crowd = Crowd {
        foreign: Some(other.clone()),
        ..Crowd::of(&world)
    };
    crowd.authorize(&connection);
    let redirect = Redirect::from_form(&other).expect("a redirect");
    run(connection.complete_authorization(redirect)).expect("its turn");
}

#[test]
fn a_redirect_of_another_issuer_does_not_end_the_wait() {
    let world = World::with_metadata();
    let connection = world.open(requests::CONFIG);
    let crowd = Crowd {
        is_mixed_up: true,
        ..Crowd::of(&world)
    };
    crowd.authorize(&connection);
}
