//! `export` and `import`: a connection with its tokens, from one place to
//! another.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tokenwell::{MasterPassword, Transfer};

use super::commands::next_step;
use super::document::{self, ConnectionName, Subject};
use super::failure::Failure;
use super::input::{self, Origin};
use super::{Session, output, parse};

/// The password of a journey.
const WHAT: &str = "transfer password";
const VARIABLE: &str = "TOKENWELL_TRANSFER_PASSWORD";
const OPTION: &str = "--transfer-password-file";

/// What to do where something is there already.
const INSTEAD: &str =
    "Choose another name with --name, or replace what is there with --force, config and tokens.";

/// What `export` can be told.
#[derive(Args)]
#[command(after_help = "\
Config, tokens and sealed secrets go into one document, sealed under a password of its own, which comes from
TOKENWELL_TRANSFER_PASSWORD, from --transfer-password-file, or is asked for.

A refresh token that is used in two places is revoked by many servers: let one of them go, with `tokenwell clear` here
or by not importing the tokens there.

Examples:
  tokenwell export shop --output shop.export
  tokenwell export shop | ssh server tokenwell import - --transfer-password-file journey")]
pub struct ExportArgs {
    /// The connection
    name: ConnectionName,
    /// The file to write, in place of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file where it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// The file that the password of the document is in
    #[arg(long, value_name = "FILE")]
    transfer_password_file: Option<PathBuf>,
}

/// `export`.
pub async fn export(session: &Session, args: ExportArgs) -> Result<u8, Failure> {
    let subject = session.subject(&args.name);
    // What the environment of this machine changes is not for another.
    let mut layers = session
        .directory
        .layers(&args.name, session.profile.as_ref())?;
    layers.set(&session.overrides);
    let document = layers.document();
    let failed = Failure::of_secret;
    let exported = session.secrets.export(subject.full_name(), document).await;
    let transfer = exported.map_err(failed)?;
    let password = input::new_password(&Origin {
        what: WHAT,
        variable: VARIABLE,
        option: OPTION,
        file: args.transfer_password_file.as_deref(),
    })?;
    let sealed = transfer.seal(&MasterPassword::given(password)).await;
    let mut text = sealed.map_err(failed)?;
    text.push('\n');
    match &args.output {
        None => output::print(&text)?,
        Some(path) => write(path, &text, args.force)?,
    }
    let tokens = if transfer.has_tokens() {
        "with its tokens"
    } else {
        "without tokens, as it has none"
    };
    output::note(&format!("{} is exported {tokens}.\n", subject.full_name()));
    output::note(&outside(&transfer));
    Ok(0)
}

/// Writes a document, readable by its owner only.
fn write(path: &Path, text: &str, replace: bool) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::file("cannot write", path, error);
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    // A pipe or a device is written to, not replaced.
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return std::fs::write(path, text).map_err(|error| failed(&error));
    }
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| failed(&error))?;
    let persisted = if replace {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    persisted.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already", path.display()))
                .mend("Name another file, or replace it with --force.")
        }
        _ => failed(&error.error),
    })?;
    Ok(())
}

/// What the config takes from outside, so that it can be provided over there.
fn outside(transfer: &Transfer) -> String {
    match transfer.outside_references().as_slice() {
        [] => String::new(),
        references => format!(
            "Its config takes from outside: {}. Provide that where it goes.\n",
            references.join(", ")
        ),
    }
}

/// What `import` can be told.
#[derive(Args)]
#[command(after_help = "\
Examples:
  tokenwell import shop.export
  tokenwell import shop.export --name shop2
  tokenwell import - --transfer-password-file journey < shop.export")]
pub struct ImportArgs {
    /// The exported connection; - reads it from standard input
    file: PathBuf,
    /// Call it so here
    #[arg(long, value_name = "NAME")]
    name: Option<ConnectionName>,
    /// Replace what is there under the name, config and tokens; where none come, none stay
    #[arg(long)]
    force: bool,
    /// The file that the password of the document is in
    #[arg(long, value_name = "FILE")]
    transfer_password_file: Option<PathBuf>,
}

/// `import`.
pub async fn import(session: &Session, args: ImportArgs) -> Result<u8, Failure> {
    let document = read(&args)?;
    let password = input::password(&Origin {
        what: WHAT,
        variable: VARIABLE,
        option: OPTION,
        file: args.transfer_password_file.as_deref(),
    })?;
    let failed = Failure::of_secret;
    let opened = Transfer::open(&document, &MasterPassword::given(password)).await;
    let transfer = opened.map_err(failed)?;
    let name = match args.name {
        Some(name) => name,
        // A profile's export comes as a connection of its own.
        None => transfer.name().replace('.', "-").parse().map_err(|_| {
            Failure::usage(format!(
                "{} is no name here",
                output::printable(transfer.name())
            ))
            .mend("Give it one with --name.")
        })?,
    };
    // A profile is no config of its own.
    if session.profile.is_some() {
        session.directory.load(&name, None)?;
    }
    let path = session.directory.file(&name, session.profile.as_ref());
    if path.exists() && !args.force {
        return Err(document::already_there(&path).mend(INSTEAD));
    }
    let subject = session.subject(&name);
    let transfer = transfer.named(subject.full_name());
    let next = next(session, &subject, &transfer).await?;
    let imported = session
        .secrets
        .import(&transfer, subject.full_name(), args.force);
    let import = imported.await.map_err(failed)?.ok_or_else(|| {
        Failure::usage(format!(
            "{} has tokens in the store already, or a sealed secret of the same name is another",
            subject.full_name()
        ))
        .mend(
            "Choose another name with --name, or replace what is there with --force. A sealed secret that is not called \
             after the connection keeps its name: --force replaces it for whatever else refers to it.",
        )
    })?;
    // The config goes first, and back where the tokens cannot follow: neither is
    // to be found with the other's predecessor.
    let before = match std::fs::read(&path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("cannot read", &path, &error)),
    };
    session
        .directory
        .write(&path, transfer.config(), args.force)?;
    if let Err(error) = import.finish().await {
        let put_back = match before {
            Some(before) => std::fs::write(&path, before),
            None => std::fs::remove_file(&path),
        };
        return Err(match put_back {
            Ok(()) => failed(error).mend("The config is as it was. Try again."),
            Err(_) => failed(error).mend("The config is replaced. Try again with --force."),
        });
    }
    session.print(
        || {
            json!({
                "name": subject.full_name(),
                "file": path.display().to_string(),
                "tokens": transfer.has_tokens(),
                "next": next,
            })
        },
        || {
            format!(
                "Imported {}\n{}Next: {next}\n",
                path.display(),
                outside(&transfer)
            )
        },
    )
}

/// What to type next.
async fn next(
    session: &Session,
    subject: &Subject,
    transfer: &Transfer,
) -> Result<String, Failure> {
    if transfer.has_tokens() {
        return Ok(subject.command("status"));
    }
    let parsed = parse(&session.host()?, subject, transfer.config()).await?;
    Ok(match parsed {
        Ok(connection) => next_step(&connection.config().grant, subject),
        Err(_) => subject.command("check"),
    })
}

fn read(args: &ImportArgs) -> Result<String, Failure> {
    if args.file.as_os_str() != "-" {
        return std::fs::read_to_string(&args.file).map_err(|error| {
            Failure::usage(format!("cannot read {}: {error}", args.file.display()))
        });
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    Ok(text)
}
