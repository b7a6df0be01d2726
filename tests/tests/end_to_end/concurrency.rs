//! Many processes, one connection.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokenwell_tests::{Answer, Cli, ScriptedServer, eventually, only};

use crate::support::{SECRET, access_token, authorized_shop, refresh_token, text, tokens};

/// Lets twenty processes ask for a token at once and returns the tokens that
/// they were given.
fn ask_twenty_times(cli: &Cli, name: &str) -> BTreeSet<String> {
    let calls: Vec<_> = (0..20)
        .map(|_| cli.start(&["token", name, "--json"]))
        .collect();
    calls
        .into_iter()
        .map(|call| text(&call.finish().expect_code(0).json(), "access_token").to_owned())
        .collect()
}

/// Long enough that the other processes ask while the first one waits.
const SLOWLY: Duration = Duration::from_secs(2);

#[test]
fn twenty_processes_with_one_expired_token_send_one_request() {
    let (cli, server) = authorized_shop(|config| config, 1);
    let expires_at = cli.status("shop")["expires_at"]
        .as_u64()
        .expect("an expiry");
    eventually("the token's expiry", || {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time after 1970");
        (now.as_secs() > expires_at).then_some(())
    });
    server.answer("/token", Answer::json(200, &tokens(2, 3600)).after(SLOWLY));
    assert_eq!(
        ask_twenty_times(&cli, "shop"),
        BTreeSet::from([access_token(2)])
    );
    let requests = server.requests_to("/token");
    assert_eq!(requests.len(), 2, "one for the code, one for the renewal");
    assert_eq!(only(&requests[1].form(), "refresh_token"), refresh_token(1));
}

#[test]
fn twenty_processes_without_a_token_send_one_request() {
    let server = ScriptedServer::start();
    let cli = Cli::new();
    let config = json!({
        "client_id": "client",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "token_endpoint": server.url("/token"),
    });
    cli.create("machine", &config).expect_code(0);
    server.answer("/token", Answer::json(200, &tokens(1, 3600)).after(SLOWLY));
    assert_eq!(
        ask_twenty_times(&cli, "machine"),
        BTreeSet::from([access_token(1)])
    );
    server.only_request_to("/token");
}

#[test]
fn a_process_that_dies_while_it_renews_does_not_lock_the_others_out() {
    let (cli, server) = authorized_shop(|config| config, 3600);
    server.answer("/token", Answer::hang());
    let dying = cli.start(&["refresh", "shop"]);
    eventually("the renewal's request", || {
        (server.requests_to("/token").len() == 2).then_some(())
    });
    dying.kill();
    server.answer("/token", Answer::json(200, &tokens(2, 3600)));
    cli.run(&["refresh", "shop"]).expect_code(0);
    assert_eq!(text(&cli.token("shop"), "access_token"), access_token(2));
    let history = cli
        .run(&["history", "shop", "--json"])
        .expect_code(0)
        .stdout;
    assert!(history.contains("renewal-interrupted"), "{history}");
}
