//! `show --effective` and `show --resolved`: every field of a config as it takes
//! effect, and where it comes from.

use std::fmt;

use serde_json::{Value, json};
use tokenwell::{ResolvedField, ValueOrigin};
use tokenwell_core::config::{self, Grant};
use tokenwell_core::metadata::Server;
use tokenwell_core::provider;

use super::document::{self, ConnectionName};
use super::failure::Failure;
use super::layers::{Layers, Source};
use super::{Session, output};

/// The fields that are objects whose members are fields of their own.
const NESTED: [&str; 6] = [
    "assertion_claims",
    "authorization_parameters",
    "parameters",
    "renewal",
    "token_headers",
    "token_parameters",
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
enum Origin {
    /// What the user wrote somewhere.
    Written(Source),
    /// The catalogue's entry of that identifier.
    Provider(String),
    /// The metadata of that issuer.
    Metadata(String),
    /// The component.
    Default,
}

impl Origin {
    /// Its kind, as JSON has it.
    fn name(&self) -> &'static str {
        match self {
            Self::Written(source) => source.name(),
            Self::Provider(_) => "provider",
            Self::Metadata(_) => "metadata",
            Self::Default => "default",
        }
    }

    /// Which one it is.
    fn place(&self) -> Value {
        match self {
            Self::Written(source) => source.place(),
            Self::Provider(name) | Self::Metadata(name) => name.clone().into(),
            Self::Default => Value::Null,
        }
    }
}

/// For a reader.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(source) => source.fmt(f),
            Self::Provider(id) => write!(f, "provider {id}"),
            Self::Metadata(_) => f.write_str("metadata"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A field as it takes effect; without a value where the server's metadata has
/// the last word and was not asked for.
#[derive(Debug, PartialEq)]
struct Field {
    name: String,
    value: Option<Value>,
    origin: Origin,
}

/// Shows a config as it takes effect: with `asks`, the server's metadata
/// included; else nothing is sent.
///
/// # Errors
/// Those of the config; with `asks`, those of the metadata.
pub async fn show(session: &Session, name: &ConnectionName, asks: bool) -> Result<u8, Failure> {
    let layers = session.layers(name)?;
    let host = session.host()?;
    let connection = session.open(&host, name).await?;
    let subject = session.subject(name);
    let known = if asks {
        let resolved = connection.resolve().await;
        Known::of(resolved.map_err(|error| Failure::of(error, Some(&subject)))?)
    } else {
        // It was read when the connection was opened.
        without_metadata(&layers.document())
            .ok_or_else(|| Failure::internal("the config was read, and cannot be read again"))?
    };
    let fields = fields(&layers, connection.config().provider.as_deref(), known);
    let unknown = fields.iter().find(|field| field.value.is_none());
    let issuer = unknown.map(|field| field.origin.place());
    session.print(
        || fields.iter().map(field_json).collect(),
        || {
            let mut table = output::Table::new(["FIELD", "VALUE", "FROM"]);
            for field in &fields {
                let value = field.value.as_ref().map(Value::to_string);
                let value = value.unwrap_or_else(|| "(not asked for)".to_owned());
                let cells = [field.name.clone(), value, field.origin.to_string()];
                table.row(cells.map(Into::into));
            }
            table.render()
        },
    )?;
    if let Some(Value::String(issuer)) = issuer.filter(|_| !session.json) {
        output::note(&output::dim(&format!(
            "What was not asked for is in the metadata of {}: `{} --resolved` asks.\n",
            output::printable(&issuer),
            subject.command("show")
        )));
    }
    Ok(0)
}

fn field_json(field: &Field) -> Value {
    json!({
        "field": field.name,
        "value": field.value,
        "origin": field.origin.name(),
        "source": field.origin.place(),
    })
}

/// What is known of a config as it takes effect.
struct Known {
    fields: Vec<ResolvedField>,
    /// The issuer whose metadata is or would be asked for.
    issuer: String,
    /// The fields that the metadata has the last word on, where it was not
    /// asked for.
    undecided: Vec<&'static str>,
}

impl Known {
    fn of(fields: Vec<ResolvedField>) -> Self {
        let issuer = fields.iter().find(|field| field.field == "issuer");
        let issuer = issuer.and_then(|field| serde_json::from_str(&field.value).ok());
        Self {
            issuer: issuer.unwrap_or_default(),
            fields,
            undecided: Vec::new(),
        }
    }
}

/// What is known without the server: what the config and the catalogue say, as the
/// component would take it.
fn without_metadata(document: &Value) -> Option<Known> {
    let mut config = config::parse(&document.to_string()).ok()?;
    // Where nothing is declared, `check` says why.
    if let Ok(dialect) = provider::dialect(&config) {
        provider::complete(&mut config, dialect);
    }
    let server = Server::from_config(&config);
    let fields = config::resolve(&config, &server).into_iter();
    let mut known = Known::of(fields.map(of_core).collect());
    if server.issuer.is_some() && !config.declares_endpoints() {
        known.undecided = undecided(&config.grant, &known.fields);
        let undecided = &known.undecided;
        known
            .fields
            .retain(|field| !undecided.contains(&field.field.as_str()));
    }
    Some(known)
}

fn of_core(field: config::ResolvedField) -> ResolvedField {
    ResolvedField {
        field: field.name,
        value: field.value,
        origin: match field.origin {
            config::ValueOrigin::Config => ValueOrigin::Config,
            config::ValueOrigin::Provider => ValueOrigin::Provider,
            config::ValueOrigin::Metadata => ValueOrigin::Metadata,
            config::ValueOrigin::Default => ValueOrigin::Default,
        },
    }
}

/// The fields of a config that its server's metadata decides on: what neither
/// the config nor the provider says.
fn undecided(grant: &Grant, fields: &[ResolvedField]) -> Vec<&'static str> {
    let endpoint = match grant {
        Grant::AuthorizationCode => Some("authorization_endpoint"),
        Grant::DeviceCode => Some("device_authorization_endpoint"),
        _ => None,
    };
    // `offline_access` is added where the server knows it, and `prompt` for it.
    let asks_user = matches!(grant, Grant::AuthorizationCode);
    let candidates = [
        endpoint,
        Some("token_endpoint"),
        Some("token_endpoint_auth_method"),
        asks_user.then_some("scope"),
        asks_user.then_some("prompt"),
        asks_user.then_some("par"),
        asks_user.then_some("request_object"),
    ];
    let candidates = candidates.into_iter().flatten();
    let undecided = candidates.filter(|name| {
        let found = fields.iter().find(|field| field.field == *name);
        match found {
            // Where no scope is asked for, none is added.
            None => !matches!(*name, "scope" | "prompt"),
            Some(field) => field.origin == ValueOrigin::Default,
        }
    });
    undecided.collect()
}

/// Every field with its origin, in the order of their names; secrets out of
/// sight.
fn fields(layers: &Layers, provider: Option<&str>, known: Known) -> Vec<Field> {
    let document = layers.document();
    let written = |path: &[&str]| layers.source_of(path).cloned().map(Origin::Written);
    let origin_of = |origin, path: &[&str], value: &Value| match origin {
        ValueOrigin::Config => written(path).unwrap_or(Origin::Default),
        ValueOrigin::Provider => Origin::Provider(provider.unwrap_or_default().to_owned()),
        ValueOrigin::Metadata => Origin::Metadata(known.issuer.clone()),
        ValueOrigin::Default => {
            // The component does not tell a default from the same in writing.
            let in_writing = path
                .iter()
                .try_fold(&document, |value, name| value.get(name));
            let is_written = in_writing.is_some_and(|written| written == value);
            written(path)
                .filter(|_| is_written)
                .unwrap_or(Origin::Default)
        }
    };
    let mut fields = Vec::new();
    for ResolvedField {
        field,
        value,
        origin,
    } in &known.fields
    {
        let mut value = serde_json::from_str(value).unwrap_or(Value::Null);
        let mut alone = json!({ field: value });
        document::redact(&mut alone);
        if let Some(redacted) = alone.get_mut(field) {
            value = redacted.take();
        }
        match value {
            Value::Object(members) if NESTED.contains(&field.as_str()) => {
                for (member, value) in members {
                    let path = [field.as_str(), &member];
                    // Config and provider may each have set some of them.
                    let origin = written(&path).unwrap_or_else(|| match origin {
                        ValueOrigin::Config => origin_of(ValueOrigin::Default, &path, &value),
                        other => origin_of(*other, &path, &value),
                    });
                    fields.push(Field {
                        name: format!("{field}.{member}"),
                        value: Some(value),
                        origin,
                    });
                }
            }
            value => fields.push(Field {
                name: field.clone(),
                origin: origin_of(*origin, &[field], &value),
                value: Some(value),
            }),
        }
    }
    for name in &known.undecided {
        fields.push(Field {
            name: (*name).to_owned(),
            value: None,
            origin: Origin::Metadata(known.issuer.clone()),
        });
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Layers {
        let mut layers = Layers::new(
            "/c/shop.json".into(),
            json!({
                "client_id": "id",
                "client_secret": "hunter2",
                "pkce": true,
                "scope": "openid",
                "renewal": {"early_seconds": 60},
                "token_headers": {"X-Api-Key": "hunter3"},
            }),
        );
        layers.set(&["timeout=5".parse().unwrap()]);
        layers
    }

    fn known(fields: &[(&str, Value, ValueOrigin)]) -> Known {
        let fields = fields.iter();
        Known::of(
            fields
                .map(|(name, value, origin)| ResolvedField {
                    field: (*name).to_owned(),
                    value: value.to_string(),
                    origin: *origin,
                })
                .collect(),
        )
    }

    fn shown(fields: &[Field]) -> Vec<(String, String, String)> {
        let text = |field: &Field| field.value.as_ref().map(ToString::to_string);
        let fields = fields.iter();
        fields
            .map(|field| {
                (
                    field.name.clone(),
                    text(field).unwrap_or_default(),
                    field.origin.to_string(),
                )
            })
            .collect()
    }

    #[test]
    fn each_field_tells_where_it_comes_from() {
        let known = known(&[
            ("client_id", json!("id"), ValueOrigin::Config),
            ("timeout", json!(5), ValueOrigin::Config),
            ("pkce", json!(true), ValueOrigin::Default),
            (
                "scope",
                json!("openid offline_access"),
                ValueOrigin::Default,
            ),
            (
                "renewal",
                json!({"early_seconds": 60, "default_lifetime_seconds": 9}),
                ValueOrigin::Provider,
            ),
            (
                "token_endpoint",
                json!("https://as.example/t"),
                ValueOrigin::Metadata,
            ),
        ]);
        let expected = [
            ("client_id", "\"id\"", "shop.json"),
            ("pkce", "true", "shop.json"),
            ("renewal.default_lifetime_seconds", "9", "provider crm"),
            ("renewal.early_seconds", "60", "shop.json"),
            ("scope", "\"openid offline_access\"", "default"),
            ("timeout", "5", "--set"),
            ("token_endpoint", "\"https://as.example/t\"", "metadata"),
        ];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(shown(&fields(&shop(), Some("crm"), known)), expected);
    }

    #[test]
    fn no_secret_is_shown_wherever_the_component_shows_one() {
        let known = known(&[
            ("client_secret", json!("hunter2"), ValueOrigin::Config),
            (
                "signing_key",
                json!({"ref": "file:key.pem"}),
                ValueOrigin::Config,
            ),
            (
                "token_headers",
                json!({"X-Api-Key": "hunter3"}),
                ValueOrigin::Config,
            ),
        ]);
        let shown = shown(&fields(&shop(), None, known));
        assert!(
            shown.iter().all(|(_, value, _)| !value.contains("hunter")),
            "{shown:?}"
        );
        assert!(
            shown
                .iter()
                .any(|(_, value, _)| value == "{\"ref\":\"file:key.pem\"}"),
            "{shown:?}"
        );
    }

    #[test]
    fn what_the_metadata_has_the_last_word_on_is_undecided() {
        let undecided = |document: Value| {
            let mut known = without_metadata(&document).expect("a config");
            known.undecided.sort_unstable();
            known.undecided
        };
        let left_open = [
            "authorization_endpoint",
            "par",
            "request_object",
            "token_endpoint",
            "token_endpoint_auth_method",
        ];
        let by_hand = json!({"issuer": "https://as.example", "client_id": "id"});
        assert_eq!(undecided(by_hand), left_open);
        let by_provider =
            json!({"provider": "oidc", "client_id": "id", "parameters": {"host": "as.example"}});
        assert_eq!(undecided(by_provider), left_open);
        let declared = json!({"provider": "github", "client_id": "id"});
        assert_eq!(undecided(declared), [""; 0]);
    }

    #[test]
    fn a_provider_that_is_left_to_its_metadata_is_shown_with_its_parameters_filled_in() {
        let document =
            json!({"provider": "oidc", "client_id": "id", "parameters": {"host": "as.example"}});
        let known = without_metadata(&document).expect("a config");
        let issuer = known.fields.iter().find(|field| field.field == "issuer");
        let issuer = issuer.map(|issuer| (issuer.value.as_str(), issuer.origin));
        assert_eq!(
            issuer,
            Some(("\"https://as.example\"", ValueOrigin::Provider))
        );
    }
}
