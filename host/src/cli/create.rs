//! `create`: a new config, checked before it is written.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use tokenwell::{Error, Host, Problem, Severity, ViolationKind};
use tokenwell_core::config::{SECRET_FIELDS, registered_grant_type};

use super::commands::next_step;
use super::document::{self, ConnectionName, Subject, merge_patch};
use super::failure::Failure;
use super::keys::sealed_name;
use super::redirect::ANY_PORT;
use super::{Session, examine, input, output};

/// What `create` can be told.
#[derive(Args)]
#[command(after_help = "\
What has no option of its own is set with --set, for instance --set renewal.early_seconds=60 or --set dpop=true.
A secret need not be typed into the command: `-` asks for it (or reads a line of standard input), and a reference
(env:NAME, file:PATH, keyring:NAME, sealed:NAME) keeps it out of the config as well; --seal does so by itself.

With --profile, NAME.PROFILE.json is written: what the profile changes in NAME.

Examples:
  tokenwell create shop --issuer https://login.example.com --client-id abc --scope 'openid orders'
  tokenwell create batch --grant-type client_credentials --token-endpoint https://login.example.com/token \\
      --client-id job --client-secret-ref env:BATCH_SECRET
  tokenwell create shop --config shop.json
  tokenwell create shop --for https://api.example.com/orders --register
  tokenwell create mail --provider google --client-id abc --client-secret - --scope https://mail.google.com/
  tokenwell --profile dev create shop --issuer https://login.test --client-id abc-test")]
pub struct CreateArgs {
    /// The name of the new connection: letters, digits, - and _
    name: ConnectionName,
    /// Start from a JSON document; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replace a config that is there; its tokens stay
    #[arg(long)]
    force: bool,
    /// Keep the secrets sealed in the store, and only references to them in the config
    #[arg(long)]
    seal: bool,

    /// A provider of the catalogue, in place of endpoints
    #[arg(long, value_name = "ID", help_heading = "Server")]
    provider: Option<String>,
    /// What the provider needs to be told, such as tenant=…
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = pair, help_heading = "Server")]
    parameters: Vec<(String, String)>,
    /// Find the authorization server of a resource by its URL (RFC 9728)
    #[arg(
        long = "for",
        value_name = "URL",
        conflicts_with_all = ["issuer", "provider"],
        help_heading = "Server"
    )]
    resource_url: Option<String>,
    /// Register a new client (RFC 7591) at that issuer, by default the one of --issuer or --for
    #[arg(
        long,
        value_name = "ISSUER",
        num_args = 0..=1,
        conflicts_with_all = ["client_id", "client_secret", "client_secret_ref"],
        help_heading = "Client"
    )]
    register: Option<Option<String>>,
    /// What the server wants to see before it registers anybody; - asks for it
    #[arg(
        long,
        value_name = "TOKEN",
        requires = "register",
        help_heading = "Client"
    )]
    initial_access_token: Option<String>,
    /// The issuer, from whose metadata the endpoints are taken
    #[arg(long, value_name = "URL", help_heading = "Server")]
    issuer: Option<String>,
    /// Where the user authorizes
    #[arg(long, value_name = "URL", help_heading = "Server")]
    authorization_endpoint: Option<String>,
    /// Where tokens are obtained
    #[arg(long, value_name = "URL", help_heading = "Server")]
    token_endpoint: Option<String>,
    /// Where tokens are revoked
    #[arg(long, value_name = "URL", help_heading = "Server")]
    revocation_endpoint: Option<String>,
    /// Where a device authorization begins
    #[arg(long, value_name = "URL", help_heading = "Server")]
    device_authorization_endpoint: Option<String>,
    /// How certificates are judged: verify, trust or off [default: verify]
    #[arg(long, value_name = "MODE", help_heading = "Server")]
    tls: Option<String>,
    /// The longest a request may take, in seconds [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Server")]
    timeout: Option<u32>,

    /// The client identifier
    #[arg(long, value_name = "ID", help_heading = "Client")]
    client_id: Option<String>,
    /// The client secret, raw; - asks for it
    #[arg(
        long,
        value_name = "SECRET",
        conflicts_with = "client_secret_ref",
        help_heading = "Client"
    )]
    client_secret: Option<String>,
    /// Where the client secret is: env:NAME, file:PATH, keyring:NAME or sealed:NAME
    #[arg(long, value_name = "REF", help_heading = "Client")]
    client_secret_ref: Option<String>,
    /// client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth or none
    #[arg(long, value_name = "METHOD", help_heading = "Client")]
    token_endpoint_auth_method: Option<String>,

    /// authorization_code, client_credentials, password, … [default: authorization_code]
    #[arg(long, value_name = "TYPE", help_heading = "Grant")]
    grant_type: Option<String>,
    /// The user name of the password grant
    #[arg(long, value_name = "NAME", help_heading = "Grant")]
    username: Option<String>,
    /// The password of the password grant; - asks for it
    #[arg(
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_ref",
        help_heading = "Grant"
    )]
    password: Option<String>,
    /// Where that password is, likewise
    #[arg(long, value_name = "REF", help_heading = "Grant")]
    password_ref: Option<String>,
    /// The refresh token to start from, for grant type refresh_token; - asks for it
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with = "refresh_token_ref",
        help_heading = "Grant"
    )]
    refresh_token: Option<String>,
    /// Where that refresh token is, likewise
    #[arg(long, value_name = "REF", help_heading = "Grant")]
    refresh_token_ref: Option<String>,
    /// The scopes to ask for, separated by spaces; may be repeated
    #[arg(long, value_name = "SCOPES", help_heading = "Grant")]
    scope: Vec<String>,
    /// The resource that the token is for (RFC 8707); may be repeated
    #[arg(long, value_name = "URI", help_heading = "Grant")]
    resource: Vec<String>,
    /// The same as some servers call it; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Grant")]
    audience: Vec<String>,

    /// Where the user is sent back to [default: a free port of this machine]
    #[arg(long, value_name = "URI", help_heading = "Authorization")]
    redirect_uri: Option<String>,
    /// none, login, consent, select_account, or several
    #[arg(long, value_name = "PROMPT", help_heading = "Authorization")]
    prompt: Vec<String>,
    /// Do not use PKCE, for a server that cannot
    #[arg(long, help_heading = "Authorization")]
    no_pkce: bool,
    /// Do not ask for a refresh token
    #[arg(long, help_heading = "Authorization")]
    no_offline_access: bool,
    /// A further parameter of the authorization request
    #[arg(long = "authorization-parameter", value_name = "NAME=VALUE", value_parser = pair, help_heading = "Authorization")]
    authorization_parameters: Vec<(String, String)>,
    /// A further parameter of the token request
    #[arg(long = "token-parameter", value_name = "NAME=VALUE", value_parser = pair, help_heading = "Authorization")]
    token_parameters: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// Creates a connection.
///
/// # Errors
/// Not configured, with every problem, where the config could not work;
/// nothing is written then.
pub async fn run(session: &Session, args: CreateArgs) -> Result<u8, Failure> {
    let path = session.directory.file(&args.name, session.profile.as_ref());
    if path.exists() && !args.force {
        return Err(document::already_there(&path)
            .mend("Choose another name, or replace it with --force (its tokens stay)."));
    }
    let mut document = match &args.config {
        Some(file) => read_config(file)?,
        None => json!({}),
    };
    let asked = args
        .config
        .as_ref()
        .is_some_and(|file| file.as_os_str() == "-");
    merge_patch(
        &mut document,
        args.to_document(&mut |what| ask(what, asked))?,
    );
    document::apply(&mut document, &session.overrides);
    let initial_access_token = match args.initial_access_token.as_deref() {
        Some("-") => Some(ask("initial access token", asked)?),
        token => token.map(str::to_owned),
    };
    let host = session.host()?;
    if let Some(url) = &args.resource_url {
        check_url("--for", url)?;
        find_server(&host, url, &mut document).await?;
    }
    // A profile is no config of its own: it is judged in its place.
    let base = match session.profile {
        Some(_) => session.directory.load(&args.name, None)?,
        None => json!({}),
    };
    let in_its_place = |document: &Value| {
        let mut patch = document.clone();
        // What was found does not go before what was typed.
        document::apply(&mut patch, &session.overrides);
        let mut whole = base.clone();
        merge_patch(&mut whole, patch);
        whole
    };
    let subject = session.subject(&args.name);
    let cannot_work = |problems: Vec<Problem>, nothing: &str| {
        Failure::not_configured(format!(
            "{} is not created: its config cannot work",
            subject.full_name()
        ))
        .with_problems(problems)
        .mend(format!(
            "{nothing} Mend the above; `tokenwell create --help` explains the options."
        ))
    };
    if let Some(given) = &args.register {
        let issuer = given.as_deref().or_else(|| document["issuer"].as_str());
        let issuer = issuer.map(str::to_owned).ok_or_else(|| {
            Failure::usage("there is no issuer to register at")
                .mend("Name it: `--register ISSUER`, or `--issuer` or `--for` beside it.")
        })?;
        check_url("--register", &issuer)?;
        // The server keeps what is registered, whatever becomes of the config.
        let mut expected = document.clone();
        merge_patch(&mut expected, json!({"issuer": issuer, "client_id": "-"}));
        let (_, mut problems) = examine(session, &host, &subject, &in_its_place(&expected)).await?;
        problems.retain(|problem| {
            problem.severity == Severity::Error && !REGISTERED.contains(&problem.field.as_str())
        });
        if !problems.is_empty() {
            return Err(cannot_work(
                problems,
                "Nothing was registered, and nothing written.",
            ));
        }
        register(&host, &subject, issuer, initial_access_token, &mut document).await?;
    }
    document::apply(&mut document, &session.overrides);
    let effective = in_its_place(&document);
    let (connection, problems) = examine(session, &host, &subject, &effective).await?;
    let works = problems
        .iter()
        .all(|problem| problem.severity == Severity::Warning);
    let Some(connection) = connection.filter(|_| works) else {
        return Err(cannot_work(problems, "Nothing was written."));
    };
    if args.seal {
        seal(session, subject.full_name(), &mut document).await?;
    }
    session.directory.write(&path, &document, args.force)?;

    let config = connection.config();
    let next = next_step(&config.grant, &subject);
    session.print(
        || {
            json!({
                "name": subject.full_name(),
                "file": path.display().to_string(),
                "warnings": output::problems_json(&problems),
                "next": next,
            })
        },
        || {
            let stored = match &config.client_secret {
                Some(tokenwell::Secret::Literal(_)) if args.seal => {
                    "  The client secret is sealed in the store.\n"
                }
                Some(tokenwell::Secret::Literal(_)) => {
                    "  The client secret is in that file, readable by you alone; --seal would keep it out.\n"
                }
                _ => "",
            };
            format!("Created {}\n{stored}{}Next: {next}\n", path.display(), output::problems_text(&problems))
        },
    )
}

/// What a registration puts into a config.
const REGISTERED: [&str; 3] = ["client_id", "client_secret", "token_endpoint_auth_method"];

/// Whether an option's value is a URL that can be asked.
fn check_url(option: &str, text: &str) -> Result<(), Failure> {
    let is_url = url::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
    if is_url {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the value of {option} is not a URL: {}",
        output::printable(text)
    ))
    .mend("Write it whole, with https:// before it."))
}

/// Puts the authorization server of a resource into a config, and the resource
/// itself (RFC 8707), by what the resource says (RFC 9728).
async fn find_server(host: &Host, url: &str, document: &mut Value) -> Result<(), Failure> {
    let found = host.discover_resource(url).await.map_err(|error| {
        let tells_nothing = matches!(
            &error,
            Error::ProtocolViolation(violation) if violation.kind == ViolationKind::Metadata
        );
        let failure = Failure::of(error, None);
        match tells_nothing {
            true => failure.mend("Name the issuer with --issuer, in place of --for."),
            false => failure,
        }
    })?;
    let metadata: Value = serde_json::from_str(&found)
        .map_err(|error| Failure::internal(format!("the resource's metadata: {error}")))?;
    let issuer = metadata["authorization_servers"][0].as_str();
    let issuer = issuer.ok_or_else(|| {
        Failure::not_configured(format!("{url} names no authorization server"))
            .mend("Name it with --issuer.")
    })?;
    let mut fields = json!({ "issuer": issuer });
    if document.get("resource").is_none() {
        fields["resource"] = metadata["resource"].clone();
    }
    merge_patch(document, fields);
    Ok(())
}

/// Registers a client for a config (RFC 7591), and puts into it what the server
/// says.
async fn register(
    host: &Host,
    subject: &Subject,
    issuer: String,
    initial_access_token: Option<String>,
    document: &mut Value,
) -> Result<(), Failure> {
    let metadata = registration(document, subject.full_name());
    let answer = host
        .register_client(
            &issuer,
            &metadata.to_string(),
            initial_access_token.as_deref(),
        )
        .await
        .map_err(|error| Failure::of(error, None))?;
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|error| Failure::internal(format!("the server's answer: {error}")))?;
    let mut fields = json!({ "issuer": issuer });
    for field in REGISTERED {
        if let Some(value) = answer.get(field).filter(|value| value.is_string()) {
            fields[field] = value.clone();
        }
    }
    merge_patch(document, fields);
    Ok(())
}

/// What is registered of a client: what its config says.
fn registration(document: &Value, name: &str) -> Value {
    let grant = document["grant_type"]
        .as_str()
        .unwrap_or("authorization_code");
    let needs_redirect = grant == "authorization_code";
    let grant = registered_grant_type(grant);
    let mut grants = vec![grant];
    if needs_redirect || grant == registered_grant_type("device_code") {
        grants.push("refresh_token");
    }
    let method = match document["token_endpoint_auth_method"].as_str() {
        Some(method) => method,
        // A client on a user's machine keeps no secret (RFC 8252 section 8.5).
        None if grants.len() > 1 => "none",
        None => "client_secret_basic",
    };
    let mut metadata = json!({
        "client_name": name,
        "grant_types": grants,
        "response_types": if needs_redirect { vec!["code"] } else { vec![] },
        "redirect_uris": [],
        "token_endpoint_auth_method": method,
    });
    if needs_redirect {
        let given = document["redirect_uri"].as_str();
        metadata["redirect_uris"] = json!([given.unwrap_or(ANY_PORT)]);
        if given.is_none() {
            metadata["application_type"] = "native".into();
        }
    }
    metadata
}

/// Puts the secrets of a config into the store, and references in their place.
async fn seal(session: &Session, full_name: &str, document: &mut Value) -> Result<(), Failure> {
    for field in SECRET_FIELDS {
        let Some(secret) = document.get(field).and_then(Value::as_str) else {
            continue;
        };
        let name = sealed_name(full_name, field);
        let sealed = session.secrets.seal_secret(&name, secret).await;
        sealed.map_err(Failure::of_secret)?;
        document[field] = json!({ "ref": format!("sealed:{name}") });
    }
    Ok(())
}

impl CreateArgs {
    /// The document that the options amount to, asking for what is `-`.
    fn to_document(
        &self,
        ask: &mut dyn FnMut(&str) -> Result<String, Failure>,
    ) -> Result<Value, Failure> {
        let mut fields = Map::new();
        for (field, value) in [
            ("provider", &self.provider),
            ("issuer", &self.issuer),
            ("authorization_endpoint", &self.authorization_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("revocation_endpoint", &self.revocation_endpoint),
            (
                "device_authorization_endpoint",
                &self.device_authorization_endpoint,
            ),
            ("client_id", &self.client_id),
            (
                "token_endpoint_auth_method",
                &self.token_endpoint_auth_method,
            ),
            ("grant_type", &self.grant_type),
            ("username", &self.username),
            ("redirect_uri", &self.redirect_uri),
            ("tls", &self.tls),
        ] {
            if let Some(value) = value {
                fields.insert(field.into(), value.clone().into());
            }
        }
        for (field, value, reference) in [
            (
                "client_secret",
                &self.client_secret,
                &self.client_secret_ref,
            ),
            ("password", &self.password, &self.password_ref),
            (
                "refresh_token",
                &self.refresh_token,
                &self.refresh_token_ref,
            ),
        ] {
            match (value, reference) {
                (_, Some(reference)) => fields.insert(field.into(), json!({ "ref": reference })),
                (Some(value), None) if value == "-" => {
                    fields.insert(field.into(), ask(field)?.into())
                }
                (Some(value), None) => fields.insert(field.into(), value.clone().into()),
                (None, None) => None,
            };
        }
        for (field, words) in [("scope", &self.scope), ("prompt", &self.prompt)] {
            if !words.is_empty() {
                fields.insert(field.into(), words.join(" ").into());
            }
        }
        for (field, values) in [("resource", &self.resource), ("audience", &self.audience)] {
            match values.as_slice() {
                [] => {}
                [one] => {
                    fields.insert(field.into(), one.clone().into());
                }
                several => {
                    fields.insert(field.into(), json!(several));
                }
            }
        }
        for (field, pairs) in [
            ("parameters", &self.parameters),
            ("authorization_parameters", &self.authorization_parameters),
            ("token_parameters", &self.token_parameters),
        ] {
            if !pairs.is_empty() {
                let object: Map<String, Value> = pairs
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into()))
                    .collect();
                fields.insert(field.into(), object.into());
            }
        }
        if self.no_pkce {
            fields.insert("pkce".into(), false.into());
        }
        if self.no_offline_access {
            fields.insert("offline_access".into(), false.into());
        }
        if let Some(seconds) = self.timeout {
            fields.insert("timeout".into(), seconds.into());
        }
        Ok(Value::Object(fields))
    }
}

fn read_config(file: &PathBuf) -> Result<Value, Failure> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| {
            Failure::usage(format!(
                "cannot read the config from standard input: {error}"
            ))
        })?;
        return document::parse(&text, "the config on standard input");
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    document::parse(&text, &file.display().to_string())
}

/// Asks for a secret, which standard input must not be taken up for.
fn ask(what: &str, input_is_config: bool) -> Result<String, Failure> {
    if input_is_config {
        return Err(Failure::usage(format!(
            "{what} and the config cannot both come from standard input"
        ))
        .mend("Name a file for one of them, or use a reference."));
    }
    input::secret(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tokenwell::Grant;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        create: CreateArgs,
    }

    fn document(arguments: &[&str]) -> Value {
        let all = ["create", "shop"]
            .into_iter()
            .chain(arguments.iter().copied());
        Only::try_parse_from(all)
            .unwrap()
            .create
            .to_document(&mut |what| Ok(format!("asked for {what}")))
            .unwrap()
    }

    #[test]
    fn options_become_fields_of_the_same_name() {
        assert_eq!(
            document(&[
                "--issuer",
                "https://as.example",
                "--client-id",
                "4711",
                "--scope",
                "a b",
                "--scope",
                "c",
                "--prompt",
                "login",
                "--prompt",
                "consent",
                "--no-pkce",
                "--no-offline-access",
                "--timeout",
                "5",
                "--parameter",
                "tenant=x=y",
                "--resource",
                "https://r.example",
                "--audience",
                "one",
                "--audience",
                "two",
            ]),
            json!({
                "issuer": "https://as.example",
                "client_id": "4711",
                "scope": "a b c",
                "prompt": "login consent",
                "resource": "https://r.example",
                "audience": ["one", "two"],
                "parameters": {"tenant": "x=y"},
                "pkce": false,
                "offline_access": false,
                "timeout": 5,
            })
        );
    }

    #[test]
    fn what_is_not_given_is_not_written() {
        assert_eq!(document(&[]), json!({}));
    }

    #[test]
    fn a_client_is_registered_for_its_grant_by_the_registered_name() {
        let grants = |grant: &str| {
            registration(&json!({"grant_type": grant}), "shop")["grant_types"].clone()
        };
        let urn = "urn:ietf:params:oauth:grant-type:";
        assert_eq!(
            grants("authorization_code"),
            json!(["authorization_code", "refresh_token"])
        );
        assert_eq!(
            grants("device_code"),
            json!([format!("{urn}device_code"), "refresh_token"])
        );
        assert_eq!(grants("jwt_bearer"), json!([format!("{urn}jwt-bearer")]));
        assert_eq!(
            grants("token_exchange"),
            json!([format!("{urn}token-exchange")])
        );
        assert_eq!(grants("urn:x"), json!(["urn:x"]));
    }

    #[test]
    fn a_secret_may_be_given_asked_for_or_referred_to() {
        assert_eq!(
            document(&[
                "--client-secret",
                "s",
                "--password",
                "-",
                "--refresh-token-ref",
                "env:RT"
            ]),
            json!({
                "client_secret": "s",
                "password": "asked for password",
                "refresh_token": {"ref": "env:RT"},
            })
        );
    }

    #[test]
    fn a_secret_and_a_reference_to_it_exclude_each_other() {
        let both = [
            "create",
            "shop",
            "--client-secret",
            "s",
            "--client-secret-ref",
            "env:S",
        ];
        assert!(Only::try_parse_from(both).is_err());
    }

    #[test]
    fn the_options_differ_by_grant_only_in_what_comes_next() {
        let subject = document::Subject::new(&"shop".parse().unwrap(), None, "");
        assert_eq!(
            next_step(&Grant::AuthorizationCode, &subject),
            "tokenwell authorize shop"
        );
        assert_eq!(
            next_step(&Grant::ClientCredentials, &subject),
            "tokenwell token shop"
        );
    }
}
