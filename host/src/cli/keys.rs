//! `rekey` and `seal`: the key that seals what is stored, and secrets sealed
//! under it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokenwell::secrets::check_sealed_name;
use tokenwell::{Host, KeySource, MasterPassword, Secrets};

use super::document::{ConnectionName, ProfileName, Subject};
use super::failure::Failure;
use super::input::{self, Origin};
use super::{Session, output};

/// What `rekey` can be told.
#[derive(Args)]
#[command(after_help = "\
Every connection of this directory is sealed anew; those that cannot be are listed. What else is in the store, and
copies made before, still open: the old key is kept, sealed under the new one. A running host goes on with the old key
until it meets the new one; under a new master password it has to be started anew.

The new master password comes from TOKENWELL_NEW_PASSWORD, from --new-password-file, or is asked for.

Examples:
  tokenwell rekey                      # a new key of the same kind
  tokenwell rekey --to password
  tokenwell rekey --to key-file        # for cron jobs and services, where no keyring is open")]
pub struct RekeyArgs {
    /// Where the new key is kept [default: where the old one is]
    #[arg(long, value_name = "PLACE")]
    to: Option<Place>,
    /// The file that the new master password is in
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Where a key is kept.
#[derive(Clone, Copy, ValueEnum)]
enum Place {
    /// In tokenwell.key in the directory
    KeyFile,
    /// In the operating system's keyring
    Keyring,
    /// Nowhere: derived from a master password
    Password,
}

impl From<Place> for KeySource {
    fn from(place: Place) -> Self {
        match place {
            Place::KeyFile => Self::KeyFile,
            Place::Keyring => Self::Keyring,
            Place::Password => Self::Password,
        }
    }
}

/// What the place of a key is called.
pub fn place_name(source: KeySource) -> &'static str {
    match source {
        KeySource::KeyFile => "key-file",
        KeySource::Keyring => "keyring",
        KeySource::Password => "password",
    }
}

/// `rekey`.
pub async fn rekey(session: &Session, args: RekeyArgs) -> Result<u8, Failure> {
    let failed = Failure::of_secret;
    let source = match args.to {
        Some(place) => place.into(),
        None => {
            let source = session.secrets.key_source().await.map_err(failed)?;
            source.ok_or_else(|| {
                Failure::usage("nothing is sealed here yet, so there is no key to replace")
                    .mend("Say what the first one shall be with --to.")
            })?
        }
    };
    if source != KeySource::Password && args.new_password_file.is_some() {
        return Err(Failure::usage(format!(
            "--new-password-file is for a master password, and the new key is of the kind {}",
            place_name(source)
        ))
        .mend("Leave it out, or add `--to password`."));
    }
    let password = match source {
        KeySource::Password => MasterPassword::given(input::new_password(&Origin {
            what: "new master password",
            variable: "TOKENWELL_NEW_PASSWORD",
            option: "--new-password-file",
            file: args.new_password_file.as_deref(),
        })?),
        KeySource::KeyFile | KeySource::Keyring => MasterPassword::default(),
    };
    let host = session.host()?;
    let mut all = Vec::new();
    for name in session.directory.names(None)? {
        let profiles = session.directory.profiles(&name)?.into_iter().map(Some);
        all.extend(
            std::iter::once(None)
                .chain(profiles)
                .map(|profile| (name.clone(), profile)),
        );
    }
    let replacing = session.secrets.replace_key(source, password);
    let left = replacing.await.map_err(failed)?;

    // From here on everything opens; sealing anew is what is left, and one that
    // cannot be sealed anew keeps no other from it.
    let (mut sealed, mut failures) = (Vec::new(), Vec::new());
    for (name, profile) in all {
        let subject = Subject::new(&name, profile.as_ref(), &session.arguments);
        match reseal(session, &host, &subject, &name, profile.as_ref()).await {
            Ok(true) => sealed.push(subject.full_name().to_owned()),
            Ok(false) => {}
            Err(failure) => failures.push((subject.full_name().to_owned(), failure)),
        }
    }
    if !session.json {
        for text in &left {
            output::note(&format!("{}.\n", output::printable(text)));
        }
        for (name, failure) in &failures {
            output::note(&format!("{}: {}", output::bold(name), failure.to_text()));
        }
        if !failures.is_empty() {
            output::note(
                "The key is replaced all the same: what is not sealed anew opens as before, \
                 and is sealed anew when next written.\n",
            );
        }
    }
    session.print(
        || {
            let failed = failures.iter();
            let failed =
                failed.map(|(name, failure)| json!({"name": name, "error": failure.to_json()}));
            json!({
                "key": place_name(source),
                "sealed": sealed,
                "failed": failed.collect::<Vec<_>>(),
                "left": left,
            })
        },
        || {
            let count = sealed.len();
            let s = if count == 1 { "" } else { "s" };
            format!(
                "{count} connection{s} sealed under a new key: {}\n",
                place_name(source)
            )
        },
    )?;
    Ok(failures
        .first()
        .map_or(0, |(_, failure)| failure.kind.exit_code()))
}

/// Seals what belongs to a connection anew, and tells whether its tokens are
/// among it. Where a secret cannot be sealed, the tokens are all the same.
async fn reseal(
    session: &Session,
    host: &Host,
    subject: &Subject,
    name: &ConnectionName,
    profile: Option<&ProfileName>,
) -> Result<bool, Failure> {
    let document = session.directory.load(name, profile)?;
    let mut outcome = Ok(());
    for secret in sealed_secrets(&document) {
        let resealed = async {
            let value = session.secrets.resolve(&format!("sealed:{secret}")).await?;
            session.secrets.seal_secret(secret, &value).await
        };
        outcome = outcome.and(resealed.await.map_err(Failure::of_secret));
    }
    // A config that is malformed now may have tokens all the same; they open
    // later as well.
    let Ok(connection) = super::parse(host, subject, &document).await? else {
        return outcome.map(|()| false);
    };
    let resealed = connection.reseal().await;
    outcome.and(resealed.map_err(|error| Failure::of(error, Some(subject))))?;
    Ok(true)
}

/// The names of the sealed secrets that a config refers to.
pub fn sealed_secrets(document: &Value) -> Vec<&str> {
    let fields = document
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let references = fields.filter_map(|value| value.get("ref")?.as_str());
    references
        .filter_map(|reference| reference.strip_prefix("sealed:"))
        .collect()
}

/// The name of the sealed secret that a connection's field is kept as.
pub fn sealed_name(full_name: &str, field: &str) -> String {
    format!("{full_name}.{field}")
}

/// What `seal` can be told.
#[derive(Args)]
#[command(after_help = "\
A config refers to the secret as {\"ref\": \"sealed:NAME\"}, or with --keyring as {\"ref\": \"keyring:NAME\"}. It is asked
for, or is all that is on standard input, without the line end at its close.

Examples:
  tokenwell seal shop-secret
  tokenwell create shop --client-secret-ref sealed:shop-secret --issuer https://login.example.com --client-id abc
  pass show shop | tokenwell seal shop-secret
  tokenwell seal shop-secret --delete")]
pub struct SealArgs {
    /// The secret's name: letters, digits, `-`, `_` and dots
    name: String,
    /// Keep it in the operating system's keyring instead
    #[arg(long)]
    keyring: bool,
    /// Forget it
    #[arg(long)]
    delete: bool,
}

/// `seal`.
pub async fn seal(session: &Session, args: SealArgs) -> Result<u8, Failure> {
    let failed = Failure::of_secret;
    let secrets = &session.secrets;
    if !args.keyring {
        check_sealed_name(&args.name).map_err(Failure::usage)?;
    }
    let form = if args.keyring { "keyring" } else { "sealed" };
    let reference = format!("{form}:{}", args.name);
    if args.delete {
        let was_there = match args.keyring {
            true => secrets.forget_in_keyring(&args.name).await,
            false => secrets.forget_secret(&args.name).await,
        };
        let was_there = was_there.map_err(failed)?;
        return session.print(
            || json!({"ref": reference, "deleted": was_there}),
            || match was_there {
                true => format!("{reference}: forgotten\n"),
                false => format!("{reference}: there was none\n"),
            },
        );
    }
    let secret = input::whole_secret(&args.name)?;
    match args.keyring {
        true => secrets.keep_in_keyring(&args.name, &secret).await,
        false => secrets.seal_secret(&args.name, &secret).await,
    }
    .map_err(failed)?;
    session.print(
        || json!({"ref": reference}),
        || format!("Refer to it as {{\"ref\": \"{reference}\"}}\n"),
    )
}

/// Says where a key that has just been made is, since losing it loses what it
/// seals.
pub fn announce(source: KeySource, directory: &std::path::Path) {
    let text = match source {
        KeySource::KeyFile => format!(
            "What is stored here is sealed under a new key, {}: keep it with the rest. \
             `tokenwell rekey --to password` puts a master password in its place.\n",
            directory.join("tokenwell.key").display()
        ),
        KeySource::Keyring => "What is stored here is sealed under a new key in your keyring. \
             `tokenwell rekey --to key-file` puts a file in its place, for cron jobs and services.\n"
            .to_owned(),
        KeySource::Password => {
            "What is stored here is sealed under your master password: there is no other way to it.\n"
                .to_owned()
        }
    };
    output::note(&output::dim(&text));
}
