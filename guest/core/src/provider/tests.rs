use super::*;
use crate::config::{check, parse};
use crate::metadata::Server;

fn config(text: &str) -> Config {
    parse(text).expect("a well-formed config")
}

fn problems(text: &str) -> Vec<(String, String)> {
    let found = check(&config(text)).into_iter();
    found
        .map(|problem| (problem.field, problem.message))
        .collect()
}

fn complete(config: &Config) -> Result<Config, Vec<Problem>> {
    let mut config = config.clone();
    let dialect = dialect(&config)?;
    super::complete(&mut config, dialect);
    Ok(config)
}

/// A value that fits, for a parameter that has no default.
fn sample(pattern: &str) -> &'static str {
    const SAMPLES: [&str; 7] = [
        "x1",
        "idp.example.com",
        "A1B2C3D4E5",
        "amzn1.sp.solution.1",
        "01234567-89ab-cdef-0123-456789abcdef",
        "1.2.3",
        "Example_RuName-1",
    ];
    let found = SAMPLES
        .iter()
        .find(|value| pattern::matches(pattern, value));
    found.unwrap_or_else(|| panic!("no sample matches {pattern}"))
}

/// A config of that provider with every parameter given.
fn sample_config(provider: &Provider) -> Config {
    let parameters = provider.parameters();
    let parameters = parameters.map(|parameter| {
        let value = parameter
            .default
            .unwrap_or_else(|| sample(parameter.pattern));
        (parameter.name.to_owned(), value.to_owned())
    });
    Config {
        provider: Some(provider.id.clone()),
        parameters: parameters.collect(),
        client_id: Some("id".to_owned()),
        ..Config::default()
    }
}

#[test]
fn every_provider_is_found_by_its_identifier_and_in_order() {
    let ids: Vec<_> = all().map(|provider| provider.id).collect();
    assert!(ids.is_sorted());
    for provider in all() {
        assert_eq!(find(&provider.id), Some(provider));
    }
}

#[test]
fn what_is_no_whole_identifier_finds_nothing() {
    for id in ["", "goog", "google ", "Google", "google\n0Google", "zzz"] {
        assert_eq!(find(id), None, "{id:?}");
    }
}

#[test]
fn the_catalogue_has_those_that_people_ask_for() {
    assert!(all().count() >= 120);
    for id in [
        "google",
        "microsoft-entra",
        "github",
        "gitlab",
        "okta",
        "auth0",
        "keycloak",
        "cognito",
        "salesforce",
        "slack",
        "atlassian",
        "hubspot",
        "dropbox",
        "box",
        "zoom",
        "notion",
        "shopify",
        "stripe",
        "xero",
        "quickbooks",
        "zoho",
        "linear",
        "figma",
        "discord",
        "spotify",
        "twitch",
        "linkedin",
        "facebook",
        "x",
        "reddit",
        "apple",
        "paypal",
        "docusign",
        "zendesk",
        "asana",
        "airtable",
        "servicenow",
        "snowflake",
    ] {
        assert!(find(id).is_some(), "{id}");
    }
}

#[test]
fn every_provider_completes_a_config_with_endpoints_that_may_be_used() {
    for provider in all() {
        let completed = complete(&sample_config(&provider));
        let completed =
            completed.unwrap_or_else(|problems| panic!("{}: {problems:?}", provider.id));
        let server = Server::from_config(&completed);
        assert!(
            server.issuer.is_some() || server.endpoints.token.is_some(),
            "{}",
            provider.id
        );
        assert!(!completed.dialect.text.contains("{tenant}"));
        for (name, url) in server.endpoints.iter() {
            if let Some(url) = url {
                assert!(
                    Endpoint::parse(url).is_ok(),
                    "{}: {name} {url}",
                    provider.id
                );
            }
        }
    }
}

#[test]
fn a_parameter_that_smuggles_a_host_or_a_path_is_refused_by_every_provider() {
    let hostile = [
        "",
        "..",
        "../x",
        "x/y",
        "x/../y",
        "/",
        "x?y",
        "x#y",
        "x@evil.example",
        "evil.example/",
        "evil.example#",
        "evil.example?",
        "x\\y",
        "x%2fy",
        "x y",
        "x\ny",
        "x\t",
        "é",
        "x:y@z",
        "{x}",
        "x:80:81",
        ".evil.example",
    ];
    for provider in all() {
        for parameter in provider.parameters() {
            let braced = format!("{{{}}}", parameter.name);
            let endpoints = (0..8).map(Field::of_endpoint).chain([Field::ISSUER]);
            let is_in_url = endpoints
                .filter_map(|field| provider.entry.get(field))
                .any(|url| url.contains(&braced));
            if !is_in_url {
                continue;
            }
            for value in hostile {
                let mut config = sample_config(&provider);
                let given = config
                    .parameters
                    .iter_mut()
                    .find(|(name, _)| name == parameter.name);
                given.expect("it is given").1 = value.to_owned();
                assert!(
                    complete(&config).is_err(),
                    "{}: {} = {value:?}",
                    provider.id,
                    parameter.name
                );
            }
        }
    }
}

#[test]
fn a_tenant_with_a_path_is_refused_with_the_reason_and_the_rest_is_told_too() {
    let found = problems(r#"{"provider": "microsoft-entra", "parameters": {"tenant": "x/y"}}"#);
    let expected = [
        (
            "parameters.tenant",
            "does not match [A-Za-z0-9][A-Za-z0-9.-]{0,252}",
        ),
        ("client_id", "is missing"),
    ];
    let expected = expected.map(|(field, message)| (field.to_owned(), message.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_missing_parameter_is_told_with_its_help() {
    let found = check(&config(r#"{"provider": "auth0", "client_id": "id"}"#));
    let [problem] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (problem.field.as_str(), problem.message.as_str()),
        ("parameters.domain", "is missing")
    );
    assert!(
        problem.mend.contains("example.eu.auth0.com"),
        "{}",
        problem.mend
    );
}

#[test]
fn a_parameter_that_the_provider_does_not_have_is_told() {
    let found = check(&config(
        r#"{"provider": "gitlab", "client_id": "id", "parameters": {"tenant": "x"}}"#,
    ));
    let [problem] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (problem.field.as_str(), problem.mend.as_str()),
        ("parameters.tenant", "remove it; the parameters are: host")
    );
}

#[test]
fn an_unknown_provider_is_told_with_the_nearest_one() {
    let found = check(&config(r#"{"provider": "gogle", "client_id": "id"}"#));
    let [problem] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(problem.mend, "did you mean google?");
}

#[test]
fn a_provider_makes_a_config_complete() {
    assert_eq!(problems(r#"{"provider": "google", "client_id": "id"}"#), []);
}

#[test]
fn a_provider_without_an_authorization_endpoint_wants_another_grant() {
    let found = problems(
        r#"{"provider": "zoom-server", "client_id": "id", "parameters": {"account_id": "a"}}"#,
    );
    assert_eq!(
        found,
        [(
            "authorization_endpoint".to_owned(),
            "is missing: the provider has none".to_owned()
        )]
    );
}

#[test]
fn what_the_config_says_goes_before_what_the_provider_declares() {
    let completed = complete(&config(
        r#"{"provider": "exact-online", "client_id": "id", "client_secret": "s",
            "token_endpoint": "https://proxy.example/t",
            "token_endpoint_auth_method": "client_secret_basic",
            "renewal": {"early_seconds": 20}}"#,
    ))
    .expect("complete");
    let server = Server::from_config(&completed);
    assert_eq!(
        server.endpoints.token.as_deref(),
        Some("https://proxy.example/t")
    );
    assert_eq!(
        server.endpoints.authorization.as_deref(),
        Some("https://start.exactonline.nl/api/oauth2/auth")
    );
    assert_eq!(
        completed.client_authentication,
        Some(ClientAuthentication::ClientSecretBasic)
    );
    assert_eq!(completed.renewal.early_seconds, Some(20));
}

#[test]
fn an_issuer_given_by_hand_is_another_server_that_speaks_the_same_way() {
    let completed = complete(&config(
        r#"{"provider": "keycloak", "client_id": "id", "issuer": "https://idp.example/auth/realms/r",
            "parameters": {"host": "idp.example", "realm": "r"}}"#,
    ))
    .expect("complete");
    let server = Server::from_config(&completed);
    assert_eq!(
        server.issuer.as_deref(),
        Some("https://idp.example/auth/realms/r")
    );
    assert_eq!(server.endpoints.token, None);
    assert_eq!(
        completed.dialect.get(Field::OFFLINE_SCOPE),
        Some("offline_access")
    );
}

#[test]
fn the_way_to_authenticate_with_a_secret_is_for_who_has_one() {
    let method = |text: &str| {
        complete(&config(text))
            .expect("complete")
            .client_authentication
    };
    assert_eq!(method(r#"{"provider": "google", "client_id": "id"}"#), None);
    assert_eq!(
        method(r#"{"provider": "google", "client_id": "id", "client_secret": "s"}"#),
        Some(ClientAuthentication::ClientSecretPost)
    );
}

#[test]
fn an_audience_given_by_hand_takes_the_place_of_the_declared_one() {
    let completed = complete(&config(
        r#"{"provider": "atlassian", "client_id": "id", "audience": ["mine"]}"#,
    ));
    assert_eq!(completed.expect("complete").authorization_parameters, []);
}

#[test]
fn an_optional_parameter_that_is_not_given_takes_what_needs_it_along() {
    let dialect = |text: &str| complete(&config(text)).expect("complete").dialect;
    let without = dialect(r#"{"provider": "apple", "client_id": "id"}"#);
    assert_eq!(without.get(Field::ASSERTION_ISSUER), None);
    let with = dialect(
        r#"{"provider": "apple", "client_id": "id", "parameters": {"team_id": "A1B2C3D4E5"}}"#,
    );
    assert_eq!(with.get(Field::ASSERTION_ISSUER), Some("A1B2C3D4E5"));
}

#[test]
fn pkce_that_the_provider_requires_cannot_be_turned_off() {
    let found = problems(r#"{"provider": "airtable", "client_id": "id", "pkce": false}"#);
    assert_eq!(
        found[0],
        (
            "pkce".to_owned(),
            "is off, and the provider requires it".to_owned()
        )
    );
}

#[test]
fn secrets_in_a_url_are_warned_of() {
    for (provider, warned) in [("wechat", true), ("threads", true), ("google", false)] {
        let text = format!(r#"{{"provider": "{provider}", "client_id": "id"}}"#);
        assert_eq!(!problems(&text).is_empty(), warned, "{provider}");
    }
}

#[test]
fn a_provider_tells_what_it_sets_and_what_is_peculiar() {
    let google = find("google").expect("google");
    let defaults = google.defaults();
    let found = |wanted: &str| {
        let mut found = defaults.iter().filter(|(name, _)| name == wanted);
        found.next().map(|(_, value)| value.as_str())
    };
    assert_eq!(
        found("token_endpoint"),
        Some("https://oauth2.googleapis.com/token")
    );
    assert_eq!(
        found("token_endpoint_auth_method"),
        Some("client_secret_post")
    );
    let peculiarities = google.peculiarities();
    assert!(
        peculiarities
            .contains(&"A refresh token takes the parameter access_type=offline.".to_owned())
    );
    assert!(peculiarities.contains(&"A refresh token takes prompt=consent.".to_owned()));
    let told = find("xero").expect("xero").peculiarities();
    assert!(told.contains(
        &"A refresh token that was replaced is still accepted for 30 minutes.".to_owned()
    ));
    assert!(told.contains(&"A refresh token that is not used for 60 days expires.".to_owned()));
    let notion = find("notion").expect("notion").defaults();
    assert!(notion.contains(&(
        "authorization_parameters.owner".to_owned(),
        "user".to_owned()
    )));
}

#[test]
fn a_provider_tells_where_requests_go_because_of_it() {
    let told = |id: &str| find(id).expect("it is there").endpoints();
    let has = |endpoints: &[Parameter], name: &str, url: &str| {
        endpoints.contains(&(name.to_owned(), url.to_owned()))
    };
    let threads = told("threads");
    assert!(has(
        &threads,
        "refresh_endpoint",
        "https://graph.threads.net/refresh_access_token"
    ));
    assert!(has(
        &threads,
        "exchange_endpoint",
        "https://graph.threads.net/access_token"
    ));
    let zoho = told("zoho");
    for server in ["https://accounts.zoho.com", "https://accounts.zoho.eu"] {
        assert!(has(&zoho, "callback_servers", server), "{server}");
    }
    assert!(has(
        &told("keycloak"),
        "issuer",
        "https://{host}/realms/{realm}"
    ));
}

#[test]
fn whatever_url_a_provider_declares_is_told_unless_no_request_goes_there() {
    for provider in all() {
        let told = provider.endpoints();
        let urls = provider.entry.lines();
        let urls = urls.filter(|line| line.value.starts_with("https://"));
        let sent_to = urls.filter(|line| {
            let goes_nowhere = [
                // The browser goes there.
                Field::AUTHORIZATION_ENDPOINT,
                // These are only compared.
                Field::ID_TOKEN_ISSUER,
                Field::ASSERTION_AUDIENCE,
            ];
            let is_for_people = line.field.0 >= Field::REGISTRATION_PAGE.0;
            !goes_nowhere.contains(&line.field) && !is_for_people
        });
        let sent_to: Vec<&str> = sent_to.map(|line| line.value).collect();
        let told: Vec<&str> = told.iter().map(|(_, url)| url.as_str()).collect();
        assert_eq!(told, sent_to, "{}", provider.id);
    }
}

#[test]
fn a_parameter_tells_its_pattern_default_and_help() {
    let gitlab = find("gitlab").expect("gitlab");
    let parameters: Vec<_> = gitlab.parameters().collect();
    assert_eq!(parameters.len(), 1);
    assert_eq!(
        (parameters[0].name, parameters[0].required),
        ("host", false)
    );
    assert_eq!(parameters[0].default, Some("gitlab.com"));
    assert!(!parameters[0].help.is_empty());
}

#[test]
fn each_provider_has_a_page_that_documents_it() {
    for provider in all() {
        assert!(provider.documentation_page().is_some(), "{}", provider.id);
        assert!(!provider.name().is_empty());
    }
}

#[test]
fn the_endpoints_come_in_the_order_of_the_config() {
    let urls = crate::config::EndpointUrls::default();
    let google = find("keycloak").expect("keycloak").entry;
    for (place, (name, _)) in urls.iter().enumerate() {
        let declared = google.get(Field::of_endpoint(place)).unwrap_or("userinfo");
        let end = match name {
            "authorization_endpoint" => "/auth",
            "token_endpoint" => "/token",
            "revocation_endpoint" => "/revoke",
            "introspection_endpoint" => "/introspect",
            "userinfo_endpoint" => "/userinfo",
            "device_authorization_endpoint" => "/device",
            "pushed_authorization_request_endpoint" => "/request",
            _ => "/certs",
        };
        assert!(declared.ends_with(end), "{name}: {declared}");
    }
}
