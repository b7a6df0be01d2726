//! Child processes that end with their test and never keep it waiting.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use crate::{PATIENCE, eventually};

/// A child process whose output is read as it comes.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts a process. Its standard input stays open until it is dropped.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (line, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            loop {
                let mut bytes = Vec::new();
                match reader.read_until(b'\n', &mut bytes) {
                    Ok(0) | Err(_) => break,
                    // Nobody listens any more once the test is over.
                    Ok(_) => drop(line.send(String::from_utf8_lossy(&bytes).into_owned())),
                }
            }
        });
        let (all, whole) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before a failure is still worth showing.
            let _ = stderr.read_to_end(&mut bytes);
            let _ = all.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        Self {
            name,
            child,
            lines,
            stderr: whole,
        }
    }

    /// Writes to standard input. A process may end before it has read all.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        if let Some(stdin) = &mut self.child.stdin {
            let _ = stdin.write_all(input);
        }
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Awaits the next line of standard output.
    ///
    /// # Panics
    /// Where the process ends or stays silent instead.
    pub(crate) fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line.trim_end().to_owned(),
            Err(RecvTimeoutError::Timeout) => panic!("{} prints nothing", self.name),
            Err(RecvTimeoutError::Disconnected) => {
                let stderr = self.stderr.recv_timeout(PATIENCE).unwrap_or_default();
                panic!(
                    "{} closed its output; on standard error it said:\n{stderr}",
                    self.name
                );
            }
        }
    }

    /// Whether the process has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the state of a child process")
            .is_none()
    }

    /// Awaits the end. Lines already taken are not told again.
    ///
    /// # Panics
    /// Where it does not end.
    pub(crate) fn wait(mut self) -> Ended {
        self.close_input();
        let what = format!("the end of {}", self.name);
        let status = eventually(&what, || {
            self.child.try_wait().expect("the state of a child process")
        });
        let until = Instant::now() + PATIENCE;
        let left = || until.saturating_duration_since(Instant::now());
        let mut stdout = String::new();
        while let Ok(line) = self.lines.recv_timeout(left()) {
            stdout.push_str(&line);
        }
        let stderr = self.stderr.recv_timeout(left()).unwrap_or_default();
        Ended {
            status,
            stdout,
            stderr,
        }
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends a signal, by its name without `SIG`. A process that has ended gets
/// none.
pub(crate) fn signal(process: u32, name: &str) {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {process}")])
        .stderr(Stdio::null())
        .status();
}
