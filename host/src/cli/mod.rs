//! The command line: what can be typed, and which code answers it.

mod authorize;
mod commands;
mod create;
mod demo;
mod document;
mod effective;
mod failure;
mod input;
mod keys;
mod layers;
mod output;
mod providers;
mod redirect;
mod references;
mod request;
mod signals;
mod transfer;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::{Value, json};
use tokenwell::{
    AuditLog, AuditOptions, Connection, Event, FileStore, Host, HostBuilder, KeySource,
    LocalSecrets, MasterPassword, NetworkPolicy, Problem, Severity, TokenStore, store,
};

use self::document::{ConnectionName, Directory, Override, ProfileName, Subject};
use self::failure::Failure;
use self::layers::{Layers, Variable};
use self::signals::heeded;

/// The options whose environment variables are no good when empty.
const EMPTIABLE: [(&str, &str); 3] = [
    ("--dir", "TOKENWELL_DIR"),
    ("--store", "TOKENWELL_STORE"),
    ("--audit", "TOKENWELL_AUDIT"),
];

/// How long a command waits for its audit log at its end.
const AUDIT_WAIT: Duration = Duration::from_secs(5);

/// OAuth 2.0 connections that always have a fresh token.
#[derive(Parser)]
#[command(
    name = "tokenwell",
    version,
    max_term_width = 100,
    long_about = "OAuth 2.0 connections that always have a fresh token.\n\n\
        A connection is a JSON document, NAME.json: server, client, grant, scopes. Create one, authorize it once if \
        its grant needs a user, and from then on `tokenwell token NAME` prints an access token that has not expired. \
        The tokens are in NAME.tokens beside the document, sealed.",
    after_help = "\
Examples:
  tokenwell create shop --issuer https://login.example.com --client-id abc --scope 'openid orders'
  tokenwell authorize shop
  tokenwell status shop
  curl -H \"$(tokenwell token shop --header)\" https://api.example.com/orders
  tokenwell request shop https://api.example.com/orders

Exit codes:
  0 done                                   5 denied, refused or answered wrongly by the server
  1 internal error, or not supported       6 unavailable, try later
  2 wrong usage                            7 files and stored tokens
  3 not configured                         8 forbidden by policy
  4 not authorized, or to be authorized again
  130, 143 ended by Ctrl-C, or by the system"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Where the connections are [default: `tokenwell` in the platform's config directory]
    #[arg(
        long,
        global = true,
        env = "TOKENWELL_DIR",
        value_name = "DIR",
        help_heading = "Everywhere"
    )]
    dir: Option<PathBuf>,
    /// Lay NAME.PROFILE.json over NAME.json; its tokens are kept apart
    #[arg(
        long,
        global = true,
        value_name = "PROFILE",
        help_heading = "Everywhere"
    )]
    profile: Option<ProfileName>,
    /// Change one field of the config for this call; `renewal.early_seconds=60` reaches inside, `null` removes
    ///
    /// It goes before an environment variable such as TOKENWELL_SET_RENEWAL__EARLY_SECONDS=60, that before the profile,
    /// that before the file. `tokenwell show NAME --effective` tells which one won.
    #[arg(
        long = "set",
        global = true,
        value_name = "FIELD=VALUE",
        help_heading = "Everywhere"
    )]
    overrides: Vec<Override>,
    /// Where the tokens are: file:DIR, postgres://… or redis://… [default: in DIR]. The environment variable keeps a password off the command line
    #[arg(
        long,
        global = true,
        env = "TOKENWELL_STORE",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Everywhere"
    )]
    store: Option<String>,
    /// Append what happens to FILE, one JSON object on a line, beside what `history` keeps
    ///
    /// Many processes may append to one file. It rotates itself: to FILE.1, that to FILE.2, and so on.
    #[arg(
        long,
        global = true,
        env = "TOKENWELL_AUDIT",
        value_name = "FILE",
        help_heading = "Everywhere"
    )]
    audit: Option<PathBuf>,
    /// Rotate FILE before it is longer than so many bytes
    #[arg(
        long,
        global = true,
        env = "TOKENWELL_AUDIT_MAX_BYTES",
        hide_short_help = true,
        value_name = "BYTES",
        default_value_t = AuditOptions::default().max_bytes,
        help_heading = "Everywhere"
    )]
    audit_max_bytes: u64,
    /// Keep so many rotated files
    #[arg(
        long,
        global = true,
        env = "TOKENWELL_AUDIT_KEEP",
        hide_short_help = true,
        value_name = "NUMBER",
        default_value_t = AuditOptions::default().kept_files,
        help_heading = "Everywhere"
    )]
    audit_keep: u32,
    /// The file that the master password is in [default: TOKENWELL_PASSWORD, else asked for where it is needed]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    password_file: Option<PathBuf>,
    /// Allow configs to have `tls: off`: whoever is on the way can read and change what is sent
    #[arg(
        long,
        global = true,
        env = "TOKENWELL_ALLOW_TLS_OFF",
        value_parser = clap::builder::FalseyValueParser::new(),
        help_heading = "Everywhere"
    )]
    allow_tls_off: bool,
    /// Print JSON, errors too
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write the config of a new connection, after checking it
    Create(Box<create::CreateArgs>),
    /// List the connections and where they stand
    #[command(after_help = "Examples:\n  tokenwell list\n  tokenwell --profile dev list --json")]
    List,
    /// Show the config of a connection, secrets as ***
    #[command(
        after_help = "Examples:\n  tokenwell show shop\n  tokenwell show shop --effective\n  TOKENWELL_SET_TIMEOUT=5 tokenwell --profile dev show shop --effective --json"
    )]
    Show(commands::ShowArgs),
    /// Say what is wrong with a config; exit code 3 if it cannot work
    #[command(
        after_help = "Examples:\n  tokenwell check shop\n  tokenwell --set scope=orders check shop"
    )]
    Check(Name),
    /// Obtain the user's consent and a token
    Authorize(authorize::AuthorizeArgs),
    /// Complete an authorization with the URL that the browser ended on
    Complete(authorize::CompleteArgs),
    /// Print an access token that has not expired
    Token(commands::TokenArgs),
    /// Send one HTTP request with the token
    Request(request::RequestArgs),
    /// Tell where a connection stands, or all of them
    #[command(
        after_help = "Examples:\n  tokenwell status\n  tokenwell status shop --json\n  tokenwell status --watch\n  tokenwell status shop crm --watch --interval 10 --json >> states.jsonl"
    )]
    Status(commands::StatusArgs),
    /// Renew the token now, due or not
    #[command(after_help = "Example:\n  tokenwell refresh shop && tokenwell history shop")]
    Refresh(Name),
    /// Forget the tokens; the config stays
    #[command(
        after_help = "The server is not told: `tokenwell revoke NAME` tells it.\n\nExamples:\n  tokenwell clear shop\n  \
            tokenwell clear shop --trust"
    )]
    Clear(commands::ClearArgs),
    /// Revoke the tokens at the server (RFC 7009), then forget them
    #[command(after_help = "Example:\n  tokenwell revoke shop")]
    Revoke(Name),
    /// Ask the server what it knows of the access token (RFC 7662)
    #[command(after_help = "Example:\n  tokenwell introspect shop")]
    Introspect(Name),
    /// Ask the server for the user's claims (OpenID Connect)
    #[command(after_help = "Example:\n  tokenwell userinfo shop")]
    Userinfo(Name),
    /// Tell what has happened to a connection, the latest last
    #[command(after_help = "Examples:\n  tokenwell history shop\n  tokenwell history shop --json")]
    History(Name),
    /// Print the redirect URI to register at the server
    #[command(after_help = "Example:\n  tokenwell callback-url shop")]
    CallbackUrl(Name),
    /// List the known providers, or explain one
    Providers(providers::ProvidersArgs),
    /// Write a connection with its tokens into one sealed document
    Export(transfer::ExportArgs),
    /// Take up a connection that was exported elsewhere
    Import(transfer::ImportArgs),
    /// Put a new key or master password in place of the one that seals what is stored
    Rekey(keys::RekeyArgs),
    /// Keep a secret sealed in the store, for a config to refer to
    Seal(keys::SealArgs),
    /// Delete a connection: config, profiles, tokens
    Delete(commands::DeleteArgs),
    /// Show on this machine how all of it works
    #[command(after_help = "Examples:\n  tokenwell demo\n  tokenwell demo --auto-consent")]
    Demo(demo::DemoArgs),
    /// Print the completions for a shell
    #[command(
        after_help = "Examples:\n  tokenwell completions bash > ~/.local/share/bash-completion/completions/tokenwell\n  tokenwell completions zsh > ~/.zfunc/_tokenwell"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Compile the component for the next build of this program to embed
    #[command(
        hide = true,
        after_help = "Example:\n  tokenwell precompile-component target/component/tokenwell-interactive-fast.cwasm"
    )]
    PrecompileComponent {
        /// The file to write
        out: PathBuf,
    },
}

/// The name of a connection.
#[derive(Args)]
struct Name {
    /// The connection
    name: ConnectionName,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    let as_json = cli.global.json;
    let outcome = tokio::runtime::Builder::new_multi_thread()
        // One command is never more work than that, on however many cores.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start: {error}")))
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(cli));
            // A thread that still waits for the user or the network must not
            // keep the command from ending.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.report(as_json);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// What clap did not understand, or `--help` and `--version`.
fn usage_error(error: &clap::Error) -> ExitCode {
    let as_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() {
        return match output::print(&error.render().ansi().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => ExitCode::from(failure.kind.exit_code()),
        };
    }
    let text = error.render().to_string();
    let what = text.split("\n\nUsage:").next().unwrap_or(&text);
    let empty = EMPTIABLE
        .iter()
        .find(|(option, variable)| {
            let is_empty = std::env::var_os(variable).is_some_and(|value| value.is_empty());
            is_empty && what.contains(&format!("'{option} <"))
        })
        .map(|(_, variable)| variable);
    let failure = match empty {
        Some(variable) => Failure::usage(format!("the environment variable {variable} is empty"))
            .mend("Give it a value, or unset it."),
        None => Failure::usage(what.trim_start_matches("error: ").trim())
            .mend("`tokenwell --help` and `tokenwell COMMAND --help` explain."),
    };
    if as_json || empty.is_some() {
        failure.report(as_json);
    } else {
        output::note(&error.render().ansi().to_string());
    }
    ExitCode::from(failure.kind.exit_code())
}

/// The exit code of the command, where it did not fail.
async fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    let session = Session::new(global)?;
    session.warn_of_unused_password().await;
    // What sends is not broken off in the middle.
    let json = session.json;
    let outcome = match command {
        Command::Create(args) => heeded(json, create::run(&session, *args)).await,
        Command::List => commands::list(&session).await,
        Command::Show(args) => heeded(json, commands::show(&session, args)).await,
        Command::Check(Name { name }) => commands::check(&session, &name).await,
        Command::Authorize(args) => heeded(json, authorize::authorize(&session, args)).await,
        Command::Complete(args) => heeded(json, authorize::complete(&session, args)).await,
        Command::Token(args) => heeded(json, commands::token(&session, args)).await,
        Command::Request(args) => heeded(json, request::run(&session, args)).await,
        Command::Status(args) => commands::status(&session, args).await,
        Command::Refresh(Name { name }) => heeded(json, commands::refresh(&session, &name)).await,
        Command::Clear(args) => commands::clear(&session, args).await,
        Command::Revoke(Name { name }) => heeded(json, commands::revoke(&session, &name)).await,
        Command::Introspect(Name { name }) => {
            heeded(json, commands::introspect(&session, &name)).await
        }
        Command::Userinfo(Name { name }) => heeded(json, commands::userinfo(&session, &name)).await,
        Command::History(Name { name }) => commands::history(&session, &name).await,
        Command::CallbackUrl(Name { name }) => commands::callback_url(&session, &name).await,
        Command::Providers(args) => providers::run(&session, args).await,
        Command::Export(args) => transfer::export(&session, args).await,
        Command::Import(args) => transfer::import(&session, args).await,
        Command::Rekey(args) => keys::rekey(&session, args).await,
        Command::Seal(args) => keys::seal(&session, args).await,
        Command::Delete(args) => commands::delete(&session, args).await,
        Command::Demo(_) if json => {
            Err(Failure::usage("the demonstration is for a reader").mend("Leave out --json."))
        }
        Command::Demo(args) => demo::run(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut visible(), "tokenwell", &mut script);
            output::print_bytes(&script).map(|()| 0)
        }
        Command::PrecompileComponent { out } => precompile_component(&out),
    };
    // The next process need not wait for what this one has done with.
    session.store.settle().await;
    session.settle_audit();
    outcome
}

/// The command line without the commands that are nobody's to type.
fn visible() -> clap::Command {
    let whole = Cli::command();
    let shown = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    Global::augment_args(clap::Command::new("tokenwell"))
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(shown.cloned())
}

/// What every command is told.
struct Session {
    directory: Directory,
    /// What has to be typed to reach the same directory again.
    arguments: String,
    profile: Option<ProfileName>,
    environment: Vec<Variable>,
    overrides: Vec<Override>,
    json: bool,
    audit: Option<AuditLog>,
    store: Arc<dyn TokenStore>,
    /// The directory of the store, where it is one of files.
    files: Option<PathBuf>,
    secrets: LocalSecrets,
    has_password: bool,
    allow_tls_off: bool,
}

impl Session {
    fn new(global: Global) -> Result<Self, Failure> {
        let mut arguments = directory_argument(global.dir.as_deref());
        let directory = Directory::new(global.dir)?.reached_by(&arguments);
        let (store, files) = match &global.store {
            None => {
                let files = directory.path().to_owned();
                (Arc::new(FileStore::new(&files)) as _, Some(files))
            }
            Some(url) => {
                arguments.push_str(&store_argument(url));
                let store = store::open(url).map_err(|error| Failure::usage(error.to_string()))?;
                (store, store::directory_of(url).map(PathBuf::from))
            }
        };
        let environment = layers::environment(std::env::vars_os())?;
        let audit = match &global.audit {
            None => None,
            Some(path) => {
                let options = AuditOptions {
                    max_bytes: global.audit_max_bytes,
                    kept_files: global.audit_keep,
                };
                let log = AuditLog::open(path, options).map_err(|error| {
                    Failure::file("cannot append to the audit log", path, &error).mend(
                        "Nothing was done. Name another file with --audit, or TOKENWELL_AUDIT.",
                    )
                })?;
                Some(log)
            }
        };
        let given = input::given_password(&input::Origin {
            what: "master password",
            variable: "TOKENWELL_PASSWORD",
            option: "--password-file",
            file: global.password_file.as_deref(),
        })?;
        let has_password = given.is_some();
        let password = match given {
            Some(given) => MasterPassword::given(given),
            None => MasterPassword::prompt(|| input::prompt("master password")),
        };
        let (json, keys) = (global.json, directory.path().to_owned());
        let secrets = LocalSecrets::in_directory(directory.path())
            .with_store(Arc::clone(&store))
            .with_password(password)
            .announcing(move |source| {
                if !json {
                    keys::announce(source, &keys);
                }
            });
        Ok(Self {
            directory,
            arguments,
            profile: global.profile,
            environment,
            overrides: global.overrides,
            json,
            audit,
            store,
            files,
            secrets,
            has_password,
            allow_tls_off: global.allow_tls_off,
        })
    }

    /// Says so where a master password was given in vain: what is stored is not
    /// as well protected as somebody believes.
    async fn warn_of_unused_password(&self) {
        if !self.has_password || self.json {
            return;
        }
        // Whether the store can be read at all is for the command to find out.
        let source = self.secrets.key_source().await.ok().flatten();
        if let Some(source) = source.filter(|source| *source != KeySource::Password) {
            output::note(&output::dim(&format!(
                "The master password is not used: what is stored here is sealed under a key elsewhere ({}). \
                 `tokenwell rekey --to password` changes that.\n",
                keys::place_name(source)
            )));
        }
    }

    /// The host of this directory, to be completed.
    fn builder(&self) -> HostBuilder {
        let mut network = NetworkPolicy::default();
        network.tls_off = self.allow_tls_off;
        let json = self.json;
        let builder = Host::builder()
            .store(Arc::clone(&self.store))
            .secrets(self.secrets.clone())
            .network(network)
            .events(move |event| {
                if !json {
                    note_event(&event);
                }
            });
        match &self.audit {
            Some(audit) => builder.events(audit.clone()),
            None => builder,
        }
    }

    /// Waits for the audit log, and says so where it is not whole.
    fn settle_audit(&self) {
        let Some(audit) = &self.audit else {
            return;
        };
        let is_written = audit.flush(AUDIT_WAIT);
        let what = match (audit.lost(), audit.failure()) {
            (0, None) if is_written => return,
            (0, None) => "the audit log cannot be written at the moment".to_owned(),
            (0, Some(failure)) => failure,
            (lost, failure) => format!(
                "{lost} events are missing in the audit log: {}",
                failure.unwrap_or_default()
            ),
        };
        output::note(&if self.json {
            format!(
                "{}\n",
                json!({"warning": {"kind": "storage", "message": what}})
            )
        } else {
            format!("{} {}\n", output::bad("warning:"), output::printable(&what))
        });
    }

    /// The host of this directory.
    fn host(&self) -> Result<Host, Failure> {
        build(self.builder())
    }

    /// The config of a connection as this call sees it: file, profile,
    /// environment, `--set`.
    fn layers(&self, name: &ConnectionName) -> Result<Layers, Failure> {
        let mut layers = self.directory.layers(name, self.profile.as_ref())?;
        layers.environment(&self.environment);
        layers.set(&self.overrides);
        Ok(layers)
    }

    /// The same in one document.
    fn document(&self, name: &ConnectionName) -> Result<Value, Failure> {
        Ok(self.layers(name)?.document())
    }

    /// A connection, for what is said of it.
    fn subject(&self, name: &ConnectionName) -> Subject {
        Subject::new(name, self.profile.as_ref(), &self.arguments)
    }

    /// Opens a connection.
    async fn open(&self, host: &Host, name: &ConnectionName) -> Result<Connection, Failure> {
        let layers = self.layers(name)?;
        let subject = self.subject(name);
        match parse(host, &subject, &layers.document()).await? {
            Ok(connection) => Ok(connection),
            Err(mut problems) => {
                layers.attribute(&mut problems);
                Err(Failure::not_configured(format!(
                    "the config of {} is malformed",
                    subject.full_name()
                ))
                .with_problems(problems)
                .mend(format!(
                    "Mend {}{}.",
                    self.directory.file(name, self.profile.as_ref()).display(),
                    match (self.overrides.is_empty(), self.environment.is_empty()) {
                        (true, true) => "",
                        (false, true) => ", or what --set changes in it",
                        (true, false) => ", or what the environment changes in it",
                        (false, false) => ", or what the environment and --set change in it",
                    }
                )))
            }
        }
    }

    /// Prints one of the two forms of a result.
    fn print(
        &self,
        value: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<u8, Failure> {
        if self.json {
            output::print_json(&value())
        } else {
            output::print(&text())
        }
        .map(|()| 0)
    }
}

/// The `--dir` that leads to the same directory again, unless the environment
/// does.
fn directory_argument(given: Option<&Path>) -> String {
    match given {
        Some(path) if std::env::var_os("TOKENWELL_DIR").is_none_or(|set| set != path) => {
            let path = path.display().to_string();
            if path.contains(|c: char| c.is_whitespace() || "'\"\\$&;|<>*?()".contains(c)) {
                format!("--dir '{}' ", path.replace('\'', "'\\''"))
            } else {
                format!("--dir {path} ")
            }
        }
        _ => String::new(),
    }
}

/// The `--store` that leads to the same store again, unless the environment
/// does, or it would show a password.
fn store_argument(url: &str) -> String {
    let is_set = std::env::var("TOKENWELL_STORE").is_ok_and(|set| set == url);
    if is_set || url.contains('@') {
        String::new()
    } else {
        format!("--store '{}' ", url.replace('\'', "'\\''"))
    }
}

/// `precompile-component`.
fn precompile_component(out: &Path) -> Result<u8, Failure> {
    let code = tokenwell::precompile_component()
        .map_err(|error| Failure::internal(failure::with_causes(&error)))?;
    std::fs::write(out, code).map_err(|error| Failure::file("cannot write", out, &error))?;
    Ok(0)
}

/// Says what the user should know of while it happens.
fn note_event(event: &Event) {
    const NOTED: [&str; 3] = ["certificate-imported", "cookie-refused", "insecure"];
    if NOTED.contains(&event.kind.as_str()) {
        let message = output::printable(&event.message);
        output::note(&format!("{}\n", output::dim(&message)));
    }
}

/// Finishes a host.
fn build(builder: HostBuilder) -> Result<Host, Failure> {
    builder
        .build()
        .map_err(|error| Failure::internal(failure::with_causes(&error)))
}

/// The connection of a config document, or every problem where it is malformed.
async fn parse(
    host: &Host,
    subject: &Subject,
    document: &Value,
) -> Result<Result<Connection, Vec<Problem>>, Failure> {
    match host.parse_config(&document.to_string()).await {
        Ok(config) => Ok(Ok(host.connection(subject.full_name(), config))),
        Err(tokenwell::Error::NotConfigured(problems)) => Ok(Err(problems)),
        Err(error) => Err(Failure::of(error, Some(subject))),
    }
}

/// The connection of a config document with everything that is wrong with it;
/// no connection where the document is malformed.
async fn examine(
    session: &Session,
    host: &Host,
    subject: &Subject,
    document: &Value,
) -> Result<(Option<Connection>, Vec<Problem>), Failure> {
    match parse(host, subject, document).await? {
        Ok(connection) => {
            let problems = connection.check().await;
            let mut problems = problems.map_err(|error| Failure::of(error, Some(subject)))?;
            problems.extend(references::problems(&session.secrets, document).await);
            problems.sort_by_key(|problem| problem.severity == Severity::Warning);
            Ok((Some(connection), problems))
        }
        Err(problems) => Ok((None, problems)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_without_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(
                command.get_about().is_some(),
                "{name} says nothing of itself"
            );
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains(&format!("tokenwell {name}")) || help.contains(&format!(" {name}")),
                "{name} has no example"
            );
        }
    }

    #[test]
    fn global_options_are_understood_behind_the_command_too() {
        let cli = Cli::try_parse_from([
            "tokenwell",
            "status",
            "shop",
            "--json",
            "--profile",
            "dev",
            "--set",
            "tls=off",
        ])
        .unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.profile, Some("dev".parse().unwrap()));
        assert_eq!(cli.global.overrides, ["tls=off".parse().unwrap()]);
    }

    #[test]
    fn token_prints_in_one_form_only() {
        for arguments in [
            ["--header", "--response"],
            ["--header", "--json"],
            ["--response", "--json"],
        ] {
            let all = ["tokenwell", "token", "shop"].into_iter().chain(arguments);
            assert!(Cli::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
