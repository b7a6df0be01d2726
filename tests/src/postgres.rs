//! A real PostgreSQL server.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tempfile::TempDir;

use crate::process::Process;
use crate::{eventually, free_port};

/// A password in need of encoding in a URL.
const PASSWORD: &str = "pg/s3cret@";
const ENCODED_PASSWORD: &str = "pg%2Fs3cret%40";

/// The superuser.
const USER: &str = "tokenwell";

/// A server with a data directory of its own, on a port of the loopback
/// interface; both are the same after a restart. It ends when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    directory: TempDir,
    port: u16,
    account: Option<Account>,
    process: Mutex<Option<Process>>,
    databases: AtomicUsize,
}

/// Who runs the server, where the tests run as root: PostgreSQL refuses to.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl PostgresServer {
    /// Starts a server.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these lines in its configuration.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(settings: &[&str]) -> Self {
        let programs = programs();
        let directory = TempDir::new().expect("a temporary directory");
        let server = Self {
            programs,
            port: free_port(),
            account: account(directory.path()),
            directory,
            process: Mutex::new(None),
            databases: AtomicUsize::new(0),
        };
        server.initialise(settings);
        server.start_again();
        server
    }

    /// A server that tests share; it ends with the last test that has it.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
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

    /// The URL of a database that exists already.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a new database.
    ///
    /// # Panics
    /// Where it cannot be created.
    pub fn new_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("tokens{number}");
        self.sql("postgres", &format!("create database {name}"));
        self.url_of(&name)
    }

    /// The URL of a database.
    pub fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{ENCODED_PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Runs SQL as the superuser and returns what it prints, fields separated
    /// by `|`.
    ///
    /// # Panics
    /// Where it fails.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-U", USER, "-d", database])
            .args(["-p", &self.port.to_string(), "-c", statements])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("psql");
        assert!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends the server and its children as a crash would. What they have not
    /// written to the disk is left to the operating system, so this is no power
    /// failure.
    pub fn kill(&self) {
        let Some(process) = self.process().take() else {
            return;
        };
        let children = children(&process);
        process.kill();
        // They would end by themselves, but not before they have answered.
        for child in &children {
            crate::process::signal(*child, "KILL");
        }
        for child in children {
            eventually("the server's children end", || {
                has_ended(child).then_some(())
            });
        }
    }

    /// Ends the server in an orderly way; clients are cut off.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn stop(&self) {
        if let Some(process) = self.process().take() {
            process.signal("INT");
            process.wait();
        }
    }

    /// Stops the server in its tracks: it takes connections and answers
    /// nothing, until [`Self::resume`].
    pub fn suspend(&self) {
        self.signal_all("STOP");
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        self.signal_all("CONT");
    }

    /// Starts the server again, on the same port and data.
    ///
    /// # Panics
    /// Where it does not come to answer.
    pub fn start_again(&self) {
        // After a crash the server's own children may take a moment to notice,
        // and the next server does not start before.
        let port = self.port.to_string();
        *self.process() = Some(eventually("PostgreSQL answers", || {
            let mut command = self.command("postgres");
            command.arg("-D").arg(self.data());
            let mut process = Process::start(&mut command);
            loop {
                let mut is_ready = Command::new(self.programs.join("pg_isready"));
                is_ready
                    .args(["-q", "-h", "127.0.0.1", "-p", &port])
                    .stdin(Stdio::null());
                if is_ready.status().expect("pg_isready").success() {
                    return Some(process);
                }
                if !process.is_running() {
                    return None;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }));
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of the server, run by whoever runs the server.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .current_dir(self.directory.path())
            .env("LC_ALL", "C");
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn initialise(&self, settings: &[&str]) {
        let password_file = self.directory.path().join("password");
        fs::write(&password_file, PASSWORD).expect("the password file");
        if let Some(account) = self.account {
            for path in [self.directory.path(), &password_file] {
                chown(path, Some(account.uid), Some(account.gid)).expect("files given away");
            }
        }
        let made = self
            .command("initdb")
            .args([
                "-U",
                USER,
                "-E",
                "UTF8",
                "--auth=scram-sha-256",
                "--no-sync",
            ])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("-D")
            .arg(self.data())
            .output()
            .expect("initdb");
        assert!(
            made.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut configuration = fs::OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .expect("the configuration");
        let directory = self.directory.path().display();
        let lines = [
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {}", self.port),
            format!("unix_socket_directories = '{directory}'"),
            "password_encryption = 'scram-sha-256'".to_owned(),
            "max_connections = 200".to_owned(),
            "shared_buffers = '16MB'".to_owned(),
            "logging_collector = off".to_owned(),
        ];
        for line in lines
            .iter()
            .map(String::as_str)
            .chain(settings.iter().copied())
        {
            writeln!(configuration, "{line}").expect("the configuration");
        }
    }

    /// Adds a file that the server reads, such as a key, to its directory.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn add_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.data().join(name);
        fs::write(&path, content).expect("a file for the server");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
        if let Some(account) = self.account {
            chown(&path, Some(account.uid), Some(account.gid)).expect("a file given away");
        }
        path
    }

    /// Sends a signal to the server and its children.
    fn signal_all(&self, signal: &str) {
        let Some(process) = &*self.process() else {
            return;
        };
        let children = children(process);
        process.signal(signal);
        for child in children {
            crate::process::signal(child, signal);
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let Some(mut process) = self.process().take() else {
            return;
        };
        // A signal for the server to end its children and itself at once. The
        // process is killed in any case, here or as it is dropped.
        process.signal("CONT");
        process.signal("QUIT");
        for _ in 0..100 {
            if !process.is_running() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// The numbers of a process's children.
fn children(process: &Process) -> Vec<u32> {
    let id = process.id();
    fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .expect("the server's children")
        .split_whitespace()
        .map(|child| child.parse().expect("the number of a process"))
        .collect()
}

/// Whether a process has ended, even if nobody has taken notice yet.
fn has_ended(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}

/// Where the programs are: Debian keeps those of the server out of `PATH`.
fn programs() -> PathBuf {
    let mut places: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    // The newest first; names are numbers.
    places.sort_by_key(|place| {
        let version = place.parent().and_then(Path::file_name);
        let version = version.and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    places.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    places
        .into_iter()
        .find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
        .expect("PostgreSQL is not installed (Debian's package `postgresql`)")
}

/// Whose account to run the server under: none where these are not root's
/// tests.
fn account(own_directory: &Path) -> Option<Account> {
    let own = fs::metadata(own_directory).expect("the temporary directory");
    if own.uid() != 0 {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("the accounts");
    ["postgres", "nobody"].iter().find_map(|name| {
        let line = accounts
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some(Account {
            uid: numbers.next()?.parse().ok()?,
            gid: numbers.next()?.parse().ok()?,
        })
    })
}
