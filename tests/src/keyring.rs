//! A real keyring: GNOME's, on a D-Bus session of its own.

use std::process::Command;

use tempfile::TempDir;

use crate::eventually;
use crate::part::Part;
use crate::process::Process;

/// A session bus that starts no service by itself: the system's own would, for
/// whoever asks before the daemon below has taken its name, start a second,
/// locked one.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// An unlocked Secret Service that nobody else sees; it ends when dropped.
#[derive(Debug)]
pub struct SecretService {
    address: String,
    _daemon: Process,
    _bus: Process,
    _home: TempDir,
}

impl SecretService {
    /// Starts one; absent where the machine is known to lack the parts.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Option<Self> {
        if Part::Keyring.is_lacking() {
            return None;
        }
        let home = TempDir::new().expect("a temporary directory");
        let config = home.path().join("bus.conf");
        std::fs::write(&config, BUS).expect("a configuration for the bus");
        let mut bus = Process::start(
            Command::new("dbus-daemon")
                .args(["--nofork", "--nopidfile", "--print-address"])
                .arg(format!("--config-file={}", config.display()))
                .env("HOME", home.path())
                .env_remove("DBUS_SESSION_BUS_ADDRESS"),
        );
        let address = bus.next_line();
        let mut daemon = Process::start(
            Command::new("gnome-keyring-daemon")
                .args(["--foreground", "--unlock", "--components=secrets"])
                .env("HOME", home.path())
                .env("XDG_RUNTIME_DIR", home.path())
                .env("XDG_DATA_HOME", home.path())
                .env("DBUS_SESSION_BUS_ADDRESS", &address),
        );
        // The password of the login keyring, which is made now.
        daemon.feed(b"test");
        daemon.close_input();
        eventually("the default keyring", || {
            has_default(&address).then_some(())
        });
        Some(Self {
            address,
            _daemon: daemon,
            _bus: bus,
            _home: home,
        })
    }

    /// What `DBUS_SESSION_BUS_ADDRESS` is to be.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Whether new secrets have somewhere to go: the daemon makes its keyring after
/// it has taken its name on the bus.
fn has_default(address: &str) -> bool {
    let answer = Command::new("dbus-send")
        .args([
            "--session",
            "--print-reply=literal",
            "--dest=org.freedesktop.secrets",
        ])
        .args(["/org/freedesktop/secrets"])
        .args(["org.freedesktop.Secret.Service.ReadAlias", "string:default"])
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .output();
    answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("/collection/"))
}
