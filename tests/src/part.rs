//! The real parts that a machine may lack.

use std::io::Write as _;

/// A part that some tests cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Node.js, which runs the authorization server and drives the browser.
    Node,
    /// Python, with the packages of the second authorization server.
    Python,
    /// Chromium.
    Browser,
    /// A Secret Service: D-Bus and GNOME's keyring.
    Keyring,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// nginx.
    Nginx,
    /// The right to mount a file system.
    Mount,
    /// A clock that can be set for one process: libfaketime.
    Faketime,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python",
            Self::Browser => "browser",
            Self::Keyring => "keyring",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nginx => "nginx",
            Self::Mount => "mount",
            Self::Faketime => "faketime",
        }
    }

    /// Whether the machine is known to lack the part: the build driver names
    /// such parts in `TOKENWELL_TEST_WITHOUT`. Where it does, this says so
    /// past the test harness's capture, so that a run without it is not
    /// mistaken for a run with it.
    pub fn is_lacking(self) -> bool {
        let without = std::env::var("TOKENWELL_TEST_WITHOUT").unwrap_or_default();
        let lacking = without.split(',').any(|part| part.trim() == self.name());
        if lacking {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Standard error may be closed; then there is nobody to tell.
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: {test}: this machine has no {}",
                self.name()
            );
        }
        lacking
    }
}
