//! `providers`: the catalogue, searched and explained.

use clap::Args;
use serde_json::{Map, Value, json};
use tokenwell::{Provider, ProviderParameter, ProviderSummary, RedirectUris};

use super::failure::Failure;
use super::redirect::{ANY_PORT, WITH_PORT};
use super::{Session, output};

/// What `providers` can be told.
#[derive(Args)]
#[command(after_help = "\
Examples:
  tokenwell providers
  tokenwell providers micro            # those with it in their name
  tokenwell providers google           # what to register, and what is peculiar")]
pub struct ProvidersArgs {
    /// The identifier of one, to have it explained; else a part of a name, to list those that have it
    provider: Option<String>,
}

/// `providers`.
pub async fn run(session: &Session, args: ProvidersArgs) -> Result<u8, Failure> {
    let failed = |error| Failure::of(error, None);
    let host = session.host()?;
    let wanted = args.provider.unwrap_or_default();
    if !wanted.is_empty()
        && let Some(provider) = host.show_provider(&wanted).await.map_err(failed)?
    {
        return session.print(|| provider_json(&provider), || explained(&provider));
    }
    let mut providers = host.list_providers().await.map_err(failed)?;
    providers.retain(|provider| matches(provider, &wanted));
    if providers.is_empty() {
        return Err(
            Failure::usage(format!("no provider has {wanted} in its name")).mend(
                "`tokenwell providers` lists those there are; one that is not there works with its issuer or endpoints.",
            ),
        );
    }
    session.print(
        || {
            let listed = providers.iter();
            listed
                .map(|provider| json!({"id": provider.id, "name": provider.name}))
                .collect()
        },
        || {
            let mut table = output::Table::new(["ID", "NAME"]);
            for provider in &providers {
                table.row([provider.id.clone().into(), provider.name.clone().into()]);
            }
            table.render()
        },
    )
}

fn matches(provider: &ProviderSummary, wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    provider.id.contains(&wanted) || provider.name.to_lowercase().contains(&wanted)
}

/// Everything that is known of a provider, for a person who is about to register
/// a client there.
fn explained(provider: &Provider) -> String {
    let mut text = format!("{} ({})\n", output::bold(&provider.name), provider.id);
    if let Some(page) = &provider.registration_page {
        text += &output::field("register at", page);
    }
    let redirect_uri = match provider.redirect_uris {
        Some(RedirectUris::Exact) => {
            format!("{WITH_PORT}, say, as it is, port included; set the same as redirect_uri")
        }
        Some(RedirectUris::Https) => {
            "an https URL of yours, no other is accepted; set the same as redirect_uri".to_owned()
        }
        Some(RedirectUris::Loopback) => format!("{ANY_PORT}: any port of it is accepted"),
        None => format!("{ANY_PORT}, or what `tokenwell callback-url NAME` prints"),
    };
    text += &output::field("redirect URI", &redirect_uri);
    if let Some(page) = &provider.documentation_page {
        text += &output::field("documentation", page);
    }
    for parameter in &provider.parameters {
        text += &output::field("parameter", &parameter_text(parameter));
    }
    text += "\nIt sets, unless the config says otherwise:\n";
    let names = provider.defaults.iter().map(|field| field.name.len());
    let width = names.max().unwrap_or_default();
    for field in &provider.defaults {
        let value = output::printable(&field.value);
        text += &format!("  {:<width$}  {value}\n", field.name);
    }
    if !provider.peculiarities.is_empty() {
        text += "\nPeculiar about it:\n";
    }
    for peculiarity in &provider.peculiarities {
        text += &format!("  - {}\n", output::printable(peculiarity));
    }
    text + &format!("\nNext: {}\n", creation(provider))
}

fn parameter_text(parameter: &ProviderParameter) -> String {
    let need = match (&parameter.default, parameter.required) {
        (Some(default), _) => format!(" [default: {default}]"),
        (None, true) => " (required)".to_owned(),
        (None, false) => String::new(),
    };
    format!("{}{need}: {}", parameter.name, parameter.help)
}

/// What to type for a connection to it.
fn creation(provider: &Provider) -> String {
    let mut command = format!("tokenwell create NAME --provider {}", provider.id);
    for parameter in provider.parameters.iter().filter(|p| p.required) {
        command += &format!(" --parameter {}=…", parameter.name);
    }
    match provider.redirect_uris {
        Some(RedirectUris::Exact) => command += &format!(" --redirect-uri {WITH_PORT}"),
        Some(RedirectUris::Https) => command += " --redirect-uri https://…",
        Some(RedirectUris::Loopback) | None => {}
    }
    command + " --client-id … --client-secret - --scope '…'"
}

fn provider_json(provider: &Provider) -> Value {
    let defaults: Map<String, Value> = provider
        .defaults
        .iter()
        .map(|field| (field.name.clone(), field.value.clone().into()))
        .collect();
    let parameters = provider.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "help": parameter.help,
            "pattern": parameter.pattern,
            "required": parameter.required,
            "default": parameter.default,
        })
    });
    json!({
        "id": provider.id,
        "name": provider.name,
        "parameters": parameters.collect::<Vec<_>>(),
        "defaults": defaults,
        "redirect_uris": provider.redirect_uris.map(|accepted| match accepted {
            RedirectUris::Loopback => "loopback",
            RedirectUris::Exact => "exact",
            RedirectUris::Https => "https",
        }),
        "registration_page": provider.registration_page,
        "documentation_page": provider.documentation_page,
        "peculiarities": provider.peculiarities,
    })
}
