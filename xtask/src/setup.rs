//! What the tests need besides Rust: Node, Python and their packages, a browser,
//! and some of the system's servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::python;
use crate::run::Ui;

/// The oldest major version of Node that runs the test servers.
const OLDEST_NODE: u32 = 20;

/// Browsers that Playwright can drive, as their programs are called.
const BROWSERS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// Where the real parts of the tests are to be found, and which could not be
/// had.
#[derive(Debug, Default)]
pub struct Parts {
    /// The Chromium to drive.
    pub chromium: Option<PathBuf>,
    pub missing: Vec<Missing>,
}

/// A real part that cannot be had on this machine.
#[derive(Debug)]
pub struct Missing {
    /// Its name in `TOKENWELL_TEST_WITHOUT`.
    pub part: &'static str,
    /// What is not tested without it.
    pub untested: &'static str,
    /// Why it is not there.
    pub why: String,
}

/// Sets up the real parts of the tests.
pub fn parts(ui: &Ui, root: &Path) -> Result<Parts> {
    let mut parts = Parts::default();
    let node = node().err();
    let no_server = |why| Missing {
        part: "node",
        untested: "the flows against oidc-provider, a real authorization server",
        why,
    };
    let no_browser = |why| Missing {
        part: "browser",
        untested: "authorization through a real browser",
        why,
    };

    let server = match &node {
        Some(problem) => Err(problem.clone()),
        None => npm_packages(ui, &root.join("tests/servers/oidc-provider"), "the tests"),
    };
    if let Err(why) = server {
        parts.missing.push(no_server(why));
    }

    let authlib = python::environment(
        ui,
        &root.join("tests/servers/authlib/requirements.txt"),
        &root.join("target/servers/authlib"),
        "the tests",
    );
    if let Err(why) = authlib {
        parts.missing.push(Missing {
            part: "python",
            untested: "the flows against Authlib, the second authorization server",
            why,
        });
    }

    let driver = match node {
        Some(problem) => Err(problem),
        None => npm_packages(ui, &root.join("tests/browser"), "the tests"),
    };
    match driver.and_then(|()| chromium(ui)) {
        Ok(path) => parts.chromium = Some(path),
        Err(why) => parts.missing.push(no_browser(why)),
    }
    for server in &DAEMONS {
        if let Err(why) = daemon(ui, server) {
            parts.missing.push(Missing {
                part: server.part,
                untested: server.untested,
                why,
            });
        }
    }
    if let Err(why) = mount() {
        parts.missing.push(Missing {
            part: "mount",
            untested: "a disk that is full or read-only",
            why,
        });
    }
    Ok(parts)
}

/// Whether a small file system can be mounted, which takes root and a kernel
/// that allows it. Fails with the reason why not.
fn mount() -> Result<(), String> {
    if !is_root() {
        return Err("only root can mount a file system".to_owned());
    }
    let place = std::env::temp_dir().join(format!("tokenwell-mount-{}", std::process::id()));
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).arg(&place).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    let mounted = run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    let unmounted = !mounted || run("umount", &[]);
    // What cannot be removed is empty and temporary.
    let _ = fs::remove_dir(&place);
    if mounted && unmounted {
        Ok(())
    } else {
        Err("this machine lets nobody mount a file system".to_owned())
    }
}

/// Real parts that are programs of the operating system.
struct Daemon {
    part: &'static str,
    untested: &'static str,
    programs: &'static [&'static str],
    packages: &'static [&'static str],
}

const DAEMONS: [Daemon; 5] = [
    Daemon {
        part: "keyring",
        untested: "keys and secrets in the operating system's keyring",
        programs: &["dbus-daemon", "gnome-keyring-daemon"],
        packages: &["dbus", "gnome-keyring"],
    },
    Daemon {
        part: "postgres",
        untested: "the store in PostgreSQL",
        programs: &["initdb", "postgres"],
        packages: &["postgresql"],
    },
    Daemon {
        part: "redis",
        untested: "the store in Redis",
        programs: &["redis-server"],
        packages: &["redis-server"],
    },
    Daemon {
        part: "nginx",
        untested: "certificates that nobody vouches for, of a real TLS server",
        programs: &["nginx"],
        packages: &["nginx-light"],
    },
    Daemon {
        part: "faketime",
        untested: "a clock that jumps under a real process",
        programs: &["faketime"],
        packages: &["faketime"],
    },
];

/// Finds a daemon's programs, or installs Debian's. Fails with the reason why
/// they are not there. The tests start what they need themselves.
fn daemon(ui: &Ui, daemon: &Daemon) -> Result<(), String> {
    let is_there = || {
        let mut programs = daemon.programs.iter();
        programs.all(|name| program_in(name, daemon_folders()).is_some())
    };
    let names = daemon.programs.join(" and ");
    if is_there() {
        return Ok(());
    }
    if !apt_as_root() {
        return Err(format!("{names} are not installed"));
    }
    let what = format!("Installing {} for the tests", daemon.packages.join(" and "));
    apt_install(ui, &what, daemon.packages)
        .map_err(|error| format!("Debian's packages cannot be installed: {error:#}"))?;
    if is_there() {
        Ok(())
    } else {
        Err(format!("Debian's packages do not have {names}"))
    }
}

/// Where daemons are installed: the search path, and the folders that Debian
/// keeps off it.
fn daemon_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    // One folder for each major version of PostgreSQL.
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders
}

/// The Node to use. Fails with the reason why there is none.
pub fn node() -> Result<PathBuf, String> {
    let problem = node_problem(
        run_version("node").as_deref(),
        run_version("npm").as_deref(),
    );
    match problem {
        Some(problem) => Err(problem),
        None => program("node").ok_or_else(|| "Node is not installed".to_owned()),
    }
}

/// What keeps Node from being used, given what `node` and `npm` say their
/// versions are.
fn node_problem(node: Option<&str>, npm: Option<&str>) -> Option<String> {
    let Some(node) = node else {
        return Some(format!("Node {OLDEST_NODE} or newer is not installed"));
    };
    let major = node.trim_start_matches('v').split('.').next();
    if major.and_then(|major| major.parse::<u32>().ok()) < Some(OLDEST_NODE) {
        return Some(format!("Node is {node}; {OLDEST_NODE} or newer is needed"));
    }
    if npm.is_none() {
        return Some("npm, which fetches the packages, is not installed".to_owned());
    }
    None
}

fn run_version(program: &str) -> Option<String> {
    let output = Command::new(self::program(program)?)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Installs what the package's lock file says, unless it is there. Fails with
/// the reason why it cannot be had.
pub fn npm_packages(ui: &Ui, package: &Path, whose: &str) -> Result<(), String> {
    if is_installed(package) {
        return Ok(());
    }
    let name = package.file_name().unwrap_or_default().display();
    let mut command = Command::new(program("npm").unwrap_or_else(|| "npm".into()));
    command.current_dir(package);
    command.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    let what = format!("Installing the npm packages of {name} for {whose}");
    ui.run(&what, command)
        .map(drop)
        .map_err(|error| format!("its npm packages cannot be installed: {error:#}"))
}

/// Whether npm has installed this lock file, and not an older one: it leaves
/// its own copy when it is done.
fn is_installed(package: &Path) -> bool {
    let changed = |path: &str| fs::metadata(package.join(path)).and_then(|data| data.modified());
    match (
        changed("node_modules/.package-lock.json"),
        changed("package-lock.json"),
    ) {
        (Ok(installed), Ok(locked)) => installed >= locked,
        _ => false,
    }
}

/// Finds a Chromium, or installs Debian's. Fails with the reason why there
/// is none.
fn chromium(ui: &Ui) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("CHROMIUM is {}, no such file", path.display()))
        };
    }
    let installed = || BROWSERS.iter().copied().find_map(program);
    if let Some(path) = installed() {
        return Ok(path);
    }
    if !apt_as_root() {
        return Err("no Chromium is installed; set CHROMIUM to the path of one".to_owned());
    }
    apt_install(
        ui,
        "Installing Chromium, the browser of the tests",
        &["chromium"],
    )
    .map_err(|error| format!("Debian's chromium cannot be installed: {error:#}"))?;
    installed().ok_or_else(|| "Debian's package chromium has no such program".to_owned())
}

/// Whether packages can be installed: Debian's apt-get, and root.
pub fn apt_as_root() -> bool {
    Path::new("/etc/debian_version").is_file() && program("apt-get").is_some() && is_root()
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The files of a process in /proc belong to its effective user.
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Installs Debian packages.
pub fn apt_install(ui: &Ui, what: &str, packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(arguments);
        command
    };
    ui.run("Asking Debian for its list of packages", apt(&["update"]))?;
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    install.args(packages);
    let what = format!("{what} (apt-get install {})", packages.join(" "));
    ui.run(&what, install)?;
    Ok(())
}

/// The program of that name on the search path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    program_in(name, std::env::split_paths(&path))
}

/// The program of that name in the first of the folders that has it.
pub fn program_in(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    // Windows has its own suffixes; npm is a script there.
    const SUFFIXES: &[&str] = if cfg!(windows) {
        &[".exe", ".cmd"]
    } else {
        &[""]
    };
    folders.into_iter().find_map(|folder| {
        SUFFIXES
            .iter()
            .map(|suffix| folder.join(format!("{name}{suffix}")))
            .find(|candidate| candidate.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_recent_node_with_npm_will_do() {
        assert_eq!(node_problem(Some("v20.20.2"), Some("11.19.1")), None);
        assert_eq!(node_problem(Some("v102.0.0"), Some("11.19.1")), None);
    }

    #[test]
    fn an_old_strange_or_absent_node_is_named_as_the_problem() {
        let old = node_problem(Some("v18.19.0"), Some("9.2.0")).unwrap();
        assert!(old.contains("v18.19.0"), "{old}");
        assert!(node_problem(Some("strange"), Some("9.2.0")).is_some());
        assert!(node_problem(None, None).is_some());
    }

    #[test]
    fn node_without_npm_is_a_problem() {
        let problem = node_problem(Some("v20.0.0"), None).unwrap();
        assert!(problem.starts_with("npm"), "{problem}");
    }

    #[test]
    fn packages_are_installed_again_when_the_lock_file_is_newer() {
        let package = std::env::temp_dir().join(format!("xtask-npm-{}", std::process::id()));
        fs::create_dir_all(package.join("node_modules")).unwrap();
        let lock = package.join("package-lock.json");
        fs::write(&lock, "{}").unwrap();
        assert!(!is_installed(&package));

        fs::write(package.join("node_modules/.package-lock.json"), "{}").unwrap();
        assert!(is_installed(&package));

        let later = SystemTime::now() + Duration::from_secs(60);
        let file = fs::File::options().write(true).open(&lock).unwrap();
        file.set_modified(later).unwrap();
        assert!(!is_installed(&package));
        fs::remove_dir_all(&package).unwrap();
    }
}
