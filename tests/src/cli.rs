//! The command line as a user runs it: a process of its own for every call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Process};
use crate::workspace;

/// `tokenwell` with a directory of connections of its own.
#[derive(Debug)]
pub struct Cli {
    program: PathBuf,
    home: TempDir,
    directory: PathBuf,
    environment: BTreeMap<String, String>,
}

/// What one call left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; absent where a signal ended it.
    pub code: Option<i32>,
    /// Standard output; for a [`Running`] call without the lines already read.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A call that has not ended; dropped, it is killed.
#[derive(Debug)]
pub struct Running(Process);

impl Default for Cli {
    fn default() -> Self {
        Self::new()
    }
}

impl Cli {
    /// The command line on an empty directory: the program that
    /// `TOKENWELL_CLI` names, which the build driver does, else the release
    /// build.
    ///
    /// # Panics
    /// Where it has not been built.
    pub fn new() -> Self {
        let program = std::env::var_os("TOKENWELL_CLI").map_or_else(
            || {
                let name = format!("tokenwell{}", std::env::consts::EXE_SUFFIX);
                workspace().join("target").join("release").join(name)
            },
            PathBuf::from,
        );
        assert!(
            program.is_file(),
            "there is no {}: run `cargo xtask build`",
            program.display()
        );
        let home = TempDir::new().expect("a temporary directory");
        let directory = home.path().join("connections");
        Self {
            program,
            home,
            directory,
            environment: BTreeMap::new(),
        }
    }

    /// Sets a variable of the environment for the calls to come.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment
            .insert(variable.to_owned(), value.to_owned());
    }

    /// Takes a variable out of the environment again.
    pub fn unset(&mut self, variable: &str) {
        self.environment.remove(variable);
    }

    /// Where the connections are: what `--dir` names.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--dir")
            .arg(&self.directory)
            .args(arguments)
            .current_dir(self.home.path());
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TOKENWELL_") {
                command.env_remove(variable);
            }
        }
        // The servers of the tests are behind no proxy.
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        // A call that opens a browser against a test's wish must not succeed.
        command
            .env("BROWSER", "false")
            .env("HOME", self.home.path())
            .env("RUST_BACKTRACE", "0")
            // The keyring of whoever runs the tests is none of theirs.
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .envs(&self.environment);
        command
    }

    /// Runs a call to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Running(Process::start(&mut self.command(arguments))).finish()
    }

    /// Runs a call to its end, with this on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut process = Process::start(&mut self.command(arguments));
        process.feed(input);
        Running(process).finish()
    }

    /// Starts a call.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running(Process::start(&mut self.command(arguments)))
    }

    /// Writes a config to a file outside the directory of connections.
    pub fn config_file(&self, config: &str) -> PathBuf {
        let path = self.home.path().join("config.json");
        std::fs::write(&path, config).expect("a config file can be written");
        path
    }

    /// `create NAME --config FILE`, with the config in the file.
    pub fn create(&self, name: &str, config: &Value) -> Outcome {
        let path = self.config_file(&config.to_string());
        let path = path.to_str().expect("a temporary path in UTF-8");
        self.run(&["create", name, "--config", path])
    }

    /// `status NAME --json`.
    ///
    /// # Panics
    /// Where it does not exit with 0 and JSON.
    pub fn status(&self, name: &str) -> Value {
        self.run(&["status", name, "--json"]).expect_code(0).json()
    }

    /// `token NAME --json`.
    ///
    /// # Panics
    /// Where it does not exit with 0 and JSON.
    pub fn token(&self, name: &str) -> Value {
        self.run(&["token", name, "--json"]).expect_code(0).json()
    }

    /// Every file under the directory of connections, with its content.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn visit(directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            let Ok(entries) = std::fs::read_dir(directory) else {
                return;
            };
            for entry in entries {
                let path = entry.expect("a directory entry").path();
                if path.is_dir() {
                    visit(&path, found);
                } else {
                    let content = std::fs::read(&path).expect("a readable file");
                    found.push((path, content));
                }
            }
        }
        let mut found = Vec::new();
        visit(&self.directory, &mut found);
        found
    }
}

impl Outcome {
    /// Insists on an exit code.
    ///
    /// # Panics
    /// Where it is another; what was printed is shown.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "the exit code is another\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error}): {}", self.stdout))
    }

    /// The error on standard error, which is an object with `--json`. What is
    /// noted beside it comes before it.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        match serde_json::from_str::<Value>(last) {
            Ok(mut object) if object["error"].is_object() => object["error"].take(),
            _ => panic!(
                "there is no error as JSON on standard error: {}",
                self.stderr
            ),
        }
    }
}

impl Running {
    /// Awaits the next line of standard output.
    pub fn next_line(&mut self) -> String {
        self.0.next_line()
    }

    /// Awaits the next line of standard output, which is JSON.
    ///
    /// # Panics
    /// Where it is not JSON.
    pub fn next_json(&mut self) -> Value {
        let line = self.next_line();
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the line is not JSON ({error}): {line}"))
    }

    /// Whether the call has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.0.is_running()
    }

    /// Awaits the end.
    pub fn finish(self) -> Outcome {
        let Ended {
            status,
            stdout,
            stderr,
        } = self.0.wait();
        Outcome {
            code: status.code(),
            stdout,
            stderr,
        }
    }

    /// Ends the call at once, as a crash would.
    pub fn kill(self) {
        self.0.kill();
    }
}
