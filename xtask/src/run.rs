//! Runs programs: says what is done, shows that it goes on, and keeps their
//! output to itself unless they fail.

use std::io::{BufRead as _, BufReader, IsTerminal as _, PipeReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Less than this needs no sign of life.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a spinner turns on a terminal.
const TURN: Duration = Duration::from_millis(120);
/// How often a log is told that something still runs.
const LOG_INTERVAL: Duration = Duration::from_secs(15);
/// How long output is awaited from a process left behind by one that ended.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Where the driver talks to its user: standard error, so that a program it
/// becomes has standard output to itself.
pub struct Ui {
    verbose: bool,
    terminal: bool,
}

/// How a program ended.
pub struct Finished {
    pub success: bool,
    /// What it wrote to standard output and standard error, in the order it
    /// was written, without cargo's messages.
    pub output: String,
    /// Cargo's messages (`--message-format=json…`).
    pub messages: Vec<Value>,
}

impl Ui {
    pub fn new(verbose: bool) -> Self {
        Self {
            verbose,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Whether output is shown as it comes.
    pub fn verbose(&self) -> bool {
        self.verbose
    }

    /// One plain line.
    pub fn say(&self, line: &str) {
        eprintln!("{line}");
    }

    /// Runs a program that has to succeed, saying `what` it is for. Where it
    /// fails, its output is shown.
    pub fn run(&self, what: &str, command: Command) -> Result<Finished> {
        let program = command.get_program().display().to_string();
        let finished = self.watch(what, command, None, |_| None)?;
        if !finished.success {
            if !self.verbose {
                let told = finished.output.lines();
                for line in told.filter(|line| activity(line).is_none()) {
                    eprintln!("{line}");
                }
            }
            bail!("{program} failed; its output is above");
        }
        Ok(finished)
    }

    /// Runs a program to its end, or until its time is over, which ends it and
    /// all that it started. `report` sees each line of its output and may give
    /// one to show.
    pub fn watch(
        &self,
        what: &str,
        mut command: Command,
        limit: Option<Duration>,
        mut report: impl FnMut(&str) -> Option<String>,
    ) -> Result<Finished> {
        let program = command.get_program().display().to_string();
        // One pipe for both, so that their order is kept.
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let copy = writer.try_clone().context("cannot make a pipe")?;
        command.stdin(Stdio::null()).stdout(copy).stderr(writer);
        #[cfg(unix)]
        if limit.is_some() {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        let begun = Instant::now();
        let mut progress = Progress::start(self, what);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        // The command holds this side's ends of the pipe, and with them open
        // the pipe would never end.
        drop(command);
        let lines = read_lines(reader);

        let mut output = String::new();
        let mut messages = Vec::new();
        let mut ended = None;
        loop {
            match lines.recv_timeout(TURN) {
                Ok(line) => {
                    if let Some(message) = cargo_message(&line) {
                        messages.push(message);
                    } else {
                        if self.verbose {
                            progress.print(&line);
                        } else if let Some(shown) = report(&line) {
                            progress.print(&shown);
                        }
                        progress.doing(&line);
                        output.push_str(&line);
                        output.push('\n');
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress.show();
            if ended.is_none() && limit.is_some_and(|limit| begun.elapsed() > limit) {
                progress.print("its time is over");
                end_group(&mut child)?;
            }
            if ended.is_none() && child.try_wait()?.is_some() {
                ended = Some(Instant::now());
            }
            if ended.is_some_and(|at| at.elapsed() > AFTERMATH) {
                break;
            }
        }
        let success = child
            .wait()
            .with_context(|| format!("lost sight of {program}"))?
            .success();
        progress.finish(success);
        Ok(Finished {
            success,
            output,
            messages,
        })
    }
}

/// Ends a program with all that it started, as far as that can be done here.
fn end_group(child: &mut std::process::Child) -> Result<()> {
    if cfg!(unix) {
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
    }
    child.kill().context("cannot end the program")
}

/// Something that cargo built.
pub struct Artifact {
    /// The program, where it is one.
    pub executable: Option<PathBuf>,
    pub filenames: Vec<PathBuf>,
}

/// What cargo says it built, or found built.
pub fn artifacts(finished: &Finished) -> impl Iterator<Item = Artifact> {
    let path = |value: &Value| value.as_str().map(PathBuf::from);
    finished
        .messages
        .iter()
        .filter(|message| message["reason"] == "compiler-artifact")
        .map(move |message| Artifact {
            executable: path(&message["executable"]),
            filenames: message["filenames"]
                .as_array()
                .map(|files| files.iter().filter_map(path).collect())
                .unwrap_or_default(),
        })
}

/// Reads on a thread of its own, so that the clock goes on while a program
/// is silent.
fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if sender.send(text.trim_end().to_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    receiver
}

fn cargo_message(line: &str) -> Option<Value> {
    if !line.starts_with("{\"reason\":") {
        return None;
    }
    serde_json::from_str(line).ok()
}

/// What a running program shows: a spinner on a terminal, a line now and
/// then elsewhere.
struct Progress<'a> {
    ui: &'a Ui,
    what: &'a str,
    now: String,
    start: Instant,
    logged: Instant,
    spinning: Option<usize>,
}

impl<'a> Progress<'a> {
    fn start(ui: &'a Ui, what: &'a str) -> Self {
        if !ui.terminal {
            eprintln!("{what}.");
        }
        Self {
            ui,
            what,
            now: String::new(),
            start: Instant::now(),
            logged: Instant::now(),
            spinning: None,
        }
    }

    /// Takes what the program is at from a line of cargo's.
    fn doing(&mut self, line: &str) {
        if let Some(activity) = activity(line) {
            self.now = activity;
        }
    }

    fn show(&mut self) {
        if self.start.elapsed() < PATIENCE {
            return;
        }
        let seconds = self.start.elapsed().as_secs();
        if self.ui.terminal {
            let turn = self.spinning.map_or(0, |turn| turn + 1);
            self.spinning = Some(turn);
            let sign = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇"].get(turn % 6).unwrap_or(&" ");
            let what: String = format!("{sign} {} ({seconds} s) {}", self.what, self.now)
                .chars()
                .take(100)
                .collect();
            eprint!("\r\x1b[2K{what}");
            let _ = std::io::stderr().flush();
        } else if self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            eprintln!("  {seconds} s {}", self.now);
        }
    }

    /// A line of its own, above the spinner.
    fn print(&mut self, line: &str) {
        self.wipe();
        eprintln!("{line}");
    }

    fn wipe(&mut self) {
        if self.spinning.is_some() {
            eprint!("\r\x1b[2K");
        }
    }

    fn finish(mut self, success: bool) {
        self.wipe();
        let took = self.start.elapsed();
        let end = if success { "done" } else { "failed" };
        if self.ui.terminal {
            eprintln!("{}: {end} in {} s.", self.what, took.as_secs());
        } else if took >= PATIENCE || !success {
            eprintln!("  {end} in {} s", took.as_secs());
        }
    }
}

/// What a line of cargo's says is going on.
fn activity(line: &str) -> Option<String> {
    const VERBS: [&str; 6] = [
        "Compiling",
        "Checking",
        "Downloading",
        "Downloaded",
        "Blocking",
        "Running",
    ];
    let line = line.trim_start();
    let (verb, rest) = line.split_once(' ')?;
    if !VERBS.contains(&verb) {
        return None;
    }
    // `Compiling name v1.2.3 (/path)`: the path is noise.
    let rest = rest.split(" (").next().unwrap_or(rest);
    Some(format!("{} {rest}", verb.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Ui = Ui {
        verbose: false,
        terminal: false,
    };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_order_of_both_streams_is_kept() {
        let script = "echo one; echo two >&2; echo three; printf four >&2";
        let finished = QUIET.run("Counting", shell(script)).unwrap();
        assert_eq!(finished.output, "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn a_failure_is_an_error_that_names_the_program() {
        let error = QUIET.run("Failing", shell("exit 3")).err().unwrap();
        assert!(error.to_string().starts_with("sh failed"), "{error}");
    }

    #[test]
    fn a_program_whose_time_is_over_is_ended_with_what_it_started() {
        let limit = Some(Duration::from_millis(300));
        let script = "sleep 600 & echo $!; wait";
        let finished = QUIET
            .watch("Waiting", shell(script), limit, |_| None)
            .unwrap();
        assert!(!finished.success);
        let child = finished.output.trim();
        let is_there = || {
            let probe = Command::new("kill").args(["-0", child]).output().unwrap();
            probe.status.success()
        };
        let patience = Instant::now() + Duration::from_secs(10);
        while is_there() {
            assert!(Instant::now() < patience, "it lives on");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn cargo_messages_are_kept_apart_from_the_output() {
        let script = r#"echo 'text'; echo '{"reason":"build-finished","success":true}'"#;
        let finished = QUIET.run("Building", shell(script)).unwrap();
        assert_eq!(finished.output, "text\n");
        assert_eq!(finished.messages.len(), 1);
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_driver_up() {
        // The one left behind keeps the pipe open until it is ended below.
        let script = "sleep 600 & echo $!";
        let finished = QUIET.run("Leaving", shell(script)).unwrap();
        let pid = finished.output.trim().to_owned();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    }

    #[test]
    fn the_activity_leaves_the_path_out() {
        assert_eq!(
            activity("   Compiling xtask v0.2.0 (/somewhere/xtask)").as_deref(),
            Some("compiling xtask v0.2.0")
        );
        assert_eq!(activity("warning: unused"), None);
    }
}
