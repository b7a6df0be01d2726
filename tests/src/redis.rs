//! A real Redis server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tempfile::TempDir;

use crate::process::Process;
use crate::{eventually, free_port};

/// A password in need of encoding in a URL.
const PASSWORD: &str = "redis/s3cret@";
const ENCODED_PASSWORD: &str = "redis%2Fs3cret%40";

/// How many databases a server has.
const DATABASES: usize = 1000;

/// What a server is set to unless a test wants otherwise.
const DURABLE: [&str; 2] = ["appendonly yes", "appendfsync always"];

/// A server with a directory of its own, on a port of the loopback interface;
/// both are the same after a restart. It ends when dropped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    process: Mutex<Option<Process>>,
    databases: AtomicUsize,
}

impl RedisServer {
    /// Starts a server that forgets nothing.
    ///
    /// # Panics
    /// Where Redis is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these lines in its configuration.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(settings: &[&str]) -> Self {
        let program = std::env::var_os("TOKENWELL_TEST_REDIS_SERVER")
            .map_or_else(|| PathBuf::from("redis-server"), PathBuf::from);
        let directory = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir {}", directory.path().display()),
            format!("requirepass {PASSWORD}"),
            format!("databases {DATABASES}"),
            "save \"\"".to_owned(),
        ];
        lines.extend(DURABLE.iter().chain(settings).map(ToString::to_string));
        fs::write(directory.path().join("redis.conf"), lines.join("\n") + "\n")
            .expect("the configuration");
        let server = Self {
            program,
            directory,
            port,
            process: Mutex::new(None),
            databases: AtomicUsize::new(0),
        };
        server.start_again();
        server
    }

    /// A server that tests share; it ends with the last test that has it.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        format!("redis://:{ENCODED_PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// The URL of a database that nobody has used yet.
    ///
    /// # Panics
    /// Where all have been.
    pub fn new_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(number < DATABASES, "all databases are used up");
        format!("{}/{number}", self.url())
    }

    /// Runs a command in database 0 and returns what it prints.
    ///
    /// # Panics
    /// Where there is no answer. An error of the server is an answer.
    pub fn command(&self, words: &[&str]) -> String {
        let output = self.cli(words).expect("redis-cli");
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends the server as a crash would. What it has not written to its disk is
    /// left to the operating system, so this is no power failure.
    pub fn kill(&self) {
        if let Some(process) = self.process().take() {
            process.kill();
        }
    }

    /// Ends the server in an orderly way; clients are cut off.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn stop(&self) {
        if let Some(process) = self.process().take() {
            process.signal("TERM");
            process.wait();
        }
    }

    /// Stops the server in its tracks: it takes connections and answers
    /// nothing, until [`Self::resume`].
    pub fn suspend(&self) {
        if let Some(process) = &*self.process() {
            process.signal("STOP");
        }
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        if let Some(process) = &*self.process() {
            process.signal("CONT");
        }
    }

    /// Starts the server again, on the same port and data.
    ///
    /// # Panics
    /// Where it does not come to answer.
    pub fn start_again(&self) {
        let mut command = Command::new(&self.program);
        command
            .arg(self.directory.path().join("redis.conf"))
            .current_dir(self.directory.path());
        let mut process = Process::start(&mut command);
        eventually("Redis answers", || {
            assert!(process.is_running(), "Redis does not start");
            let output = self
                .cli(&["PING"])
                .expect("redis-cli is not installed (Debian's package `redis-tools`)");
            (output.stdout.trim_ascii() == b"PONG").then_some(())
        });
        *self.process() = Some(process);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cli(&self, words: &[&str]) -> std::io::Result<std::process::Output> {
        Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(words)
            .env("REDISCLI_AUTH", PASSWORD)
            .output()
    }
}
