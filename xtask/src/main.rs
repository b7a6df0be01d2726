//! The build driver: one command each to build, demonstrate, test and
//! measure Tokenwell. Every command sets up what it needs and a second run
//! repeats nothing that is done.

mod bench;
mod component;
mod numbers;
mod optimizer;
mod packages;
mod precompiled;
mod python;
mod run;
mod setup;
mod suite;
mod toolchain;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;

use run::Ui;

const HELP: &str = "\
The build driver of Tokenwell.

Usage: cargo xtask COMMAND [--verbose]

Commands:
  build                     the components, then the release CLI
  demo [--auto-consent …]   build, then run the demonstration; other arguments go to it
  test [--faults] [FILTER…] build, set up the real servers and the browser, run the tests;
                            the filters `node` and `python` choose the packages for these;
                            --faults runs the fault tests alone and in full, in at most 15
                            minutes, and says in numbers what they did
  lint                      clippy on everything, warnings are errors
  bench [--hosts] [--json]  build, run the benchmarks, print a table with the limits and how
                            the numbers have changed since the last run; --hosts measures the
                            packages for Node and Python as well, each beside its language's
                            own; --json prints one object in place of the table

Options:
  -v, --verbose             show the output of cargo, npm, pip and apt-get as it comes
  -h, --help                this text
";

/// What was asked for on the command line.
#[derive(Debug, PartialEq)]
enum Task {
    Help,
    Build,
    Demo(Vec<OsString>),
    Test { faults: bool, filters: Vec<String> },
    Lint,
    Bench(bench::Options),
}

/// Reads the arguments; gives the task and whether to be verbose.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Task, bool)> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut verbose = false;
    let mut task: Option<Task> = None;
    while let Some(argument) = parser.next()? {
        match (argument, &mut task) {
            (Short('h') | Long("help"), None) => task = Some(Task::Help),
            (Short('v') | Long("verbose"), None) => verbose = true,
            (Value(name), None) => {
                task = Some(match name.to_str() {
                    Some("build") => Task::Build,
                    Some("demo") => Task::Demo(parser.raw_args()?.collect()),
                    Some("test") => Task::Test {
                        faults: false,
                        filters: Vec::new(),
                    },
                    Some("lint") => Task::Lint,
                    Some("bench") => Task::Bench(bench::Options::default()),
                    _ => bail!("there is no command {}", name.display()),
                });
            }
            (Short('h') | Long("help"), Some(task)) => *task = Task::Help,
            (Short('v') | Long("verbose"), Some(_)) => verbose = true,
            (Long("faults"), Some(Task::Test { faults, .. })) => *faults = true,
            (Value(filter), Some(Task::Test { filters, .. })) => filters.push(filter.string()?),
            (Long("json"), Some(Task::Bench(options))) => options.json = true,
            (Long("hosts"), Some(Task::Bench(options))) => options.hosts = true,
            (other, _) => return Err(other.unexpected().into()),
        }
    }
    Ok((task.unwrap_or(Task::Help), verbose))
}

fn main() -> ExitCode {
    let (task, verbose) = match parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("error: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match perform(task, &Ui::new(verbose)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task, ui: &Ui) -> Result<ExitCode> {
    let root = workspace_root()?;
    match task {
        Task::Help => print!("{HELP}"),
        Task::Build => {
            let cli = build(ui, &root)?;
            ui.say(&format!("The CLI is {}.", cli.display()));
        }
        Task::Demo(arguments) => {
            let cli = build(ui, &root)?;
            return become_process(Command::new(cli).arg("demo").args(arguments));
        }
        Task::Test { faults, filters } => {
            build(ui, &root)?;
            component::build_for_tests(ui, &root)?;
            let parts = setup::parts(ui, &root)?;
            // Where nobody looks at an editor's warnings, the tests stand
            // for them as well.
            if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
                lint(ui, &root)?;
            }
            if faults {
                return suite::faults(ui, &root, &parts, &filters);
            }
            return suite::test(ui, &root, &parts, &filters);
        }
        Task::Lint => lint(ui, &root)?,
        Task::Bench(options) => {
            build(ui, &root)?;
            bench::run(ui, &root, options)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is built, in its order: the CLI embeds the component, then
/// the code that it compiled of it itself. Gives the path of the CLI.
fn build(ui: &Ui, root: &Path) -> Result<PathBuf> {
    component::build(ui, root)?;
    let cli = build_cli(
        ui,
        root,
        "Building the command line `tokenwell`, with the component inside it",
    )?;
    if precompiled::make(ui, root, Command::new(&cli))? {
        return build_cli(
            ui,
            root,
            "Building it again, with the compiled component inside it",
        );
    }
    Ok(cli)
}

fn build_cli(ui: &Ui, root: &Path, what: &str) -> Result<PathBuf> {
    let mut command = cargo(root);
    command.args(["build", "--release", "--package", "tokenwell"]);
    command.arg("--message-format=json-render-diagnostics");
    let output = ui.run(what, command)?;
    run::artifacts(&output)
        .filter_map(|artifact| artifact.executable)
        .find(|path| path.file_stem().is_some_and(|stem| stem == "tokenwell"))
        .ok_or_else(|| anyhow!("cargo built no program `tokenwell` from the package `tokenwell`"))
}

/// The features of the host's library that are checked each without the others, and
/// none: the workspace is built with all of them, a platform that embeds the library
/// takes those it has a use for.
const LIBRARY_ALONE: [&str; 3] = ["", "postgres", "redis"];

fn lint(ui: &Ui, root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command.args(["clippy", "--workspace", "--all-targets", "--release"]);
    command.args(["--", "--deny", "warnings"]);
    ui.run("Checking the code with clippy", command)?;
    for features in LIBRARY_ALONE {
        let mut command = cargo(root);
        command.args(["clippy", "--release", "--package", "tokenwell", "--lib"]);
        command.args(["--no-default-features", "--features", features]);
        command.args(["--", "--deny", "warnings"]);
        let what = match features {
            "" => "Checking the library with none of its features".to_owned(),
            features => format!("Checking the library with `{features}` alone"),
        };
        ui.run(&what, command)?;
    }
    Ok(())
}

/// The pinned toolchain's cargo, in the workspace.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("CARGO_TERM_COLOR", "never");
    // Where the documentation says that the artefacts are.
    command.env("CARGO_TARGET_DIR", root.join("target"));
    // What `cargo run` tells this driver of itself. Build scripts watch these
    // variables, and with them would run again each time that this cargo and
    // one typed by hand take turns.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn workspace_root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .context("the folder of xtask has no parent")
}

/// Hands the terminal over: signals and the exit code are the program's own.
#[cfg(unix)]
fn become_process(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let program = command.get_program().to_owned();
    Err(command.exec()).with_context(|| format!("cannot run {}", program.display()))
}

#[cfg(not(unix))]
fn become_process(command: &mut Command) -> Result<ExitCode> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<(Task, bool)> {
        parse(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn arguments_after_demo_belong_to_the_demonstration() {
        let (task, verbose) = parse_words("demo --auto-consent --verbose x").unwrap();
        let passed = ["--auto-consent", "--verbose", "x"].map(OsString::from);
        assert_eq!(task, Task::Demo(passed.into()));
        assert!(!verbose);
    }

    #[test]
    fn test_takes_filters_and_faults_in_any_order() {
        let (task, verbose) = parse_words("-v test browser --faults token").unwrap();
        assert_eq!(
            task,
            Task::Test {
                faults: true,
                filters: vec!["browser".into(), "token".into()]
            }
        );
        assert!(verbose);
    }

    #[test]
    fn bench_takes_hosts_and_json_in_any_order() {
        let options = |json, hosts| Task::Bench(bench::Options { json, hosts });
        assert_eq!(parse_words("bench").unwrap().0, options(false, false));
        assert_eq!(
            parse_words("bench --hosts").unwrap().0,
            options(false, true)
        );
        let (task, verbose) = parse_words("bench --json -v --hosts").unwrap();
        assert_eq!(task, options(true, true));
        assert!(verbose);
    }

    #[test]
    fn no_command_shows_the_help() {
        assert_eq!(parse_words("").unwrap(), (Task::Help, false));
    }

    #[test]
    fn an_option_of_another_command_is_refused() {
        assert!(parse_words("build --faults").is_err());
        assert!(parse_words("test --json").is_err());
        assert!(parse_words("test --hosts").is_err());
        assert!(parse_words("bench --faults").is_err());
        assert!(parse_words("biuld").is_err());
    }
}
