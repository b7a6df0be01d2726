//! Which toolchain builds the components, and how: decided by a function of
//! what the machine has, so that every kind of machine can be tested on one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::Ui;
use crate::setup;

/// What the components are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages of a Rust that can build the standard library for
/// [`TARGET`], beside rustup's.
const PACKAGES: [&str; 5] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-llvm",
    "lld-22",
];

/// A release of Rust, as major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// Reads `1.95` or `1.95.0-nightly`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self(major, minor))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Whose toolchain it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The one that builds everything else, as rust-toolchain.toml has it.
    Pinned,
    /// The operating system's.
    System,
}

/// A toolchain on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    pub origin: Origin,
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    pub release: Release,
    /// What `rustc --version` says, whole.
    pub version: String,
    /// Whether the standard library for [`TARGET`] is installed.
    pub has_target: bool,
    /// Whether the standard library's source is.
    pub has_source: bool,
    /// Whether there is a linker for [`TARGET`].
    pub has_linker: bool,
}

/// What the machine has that matters here.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The oldest release that builds the workspace.
    pub oldest: Release,
    pub pinned: Option<Toolchain>,
    pub system: Option<Toolchain>,
    /// Whether packages can be installed: Debian's apt-get, and root.
    pub apt_as_root: bool,
}

/// How the components are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// With the installed standard library.
    Plain(Toolchain),
    /// With a standard library built from source.
    BuildStd(Toolchain),
    /// Debian's packages first, then decide again.
    InstallPackages,
    /// Not on this machine as it is.
    Stop,
}

/// Decides how to build the components.
pub fn plan(machine: &Machine) -> Plan {
    let usable = || {
        [&machine.pinned, &machine.system]
            .into_iter()
            .flatten()
            .filter(|toolchain| toolchain.release >= machine.oldest && toolchain.has_linker)
    };
    if let Some(toolchain) = usable().find(|toolchain| toolchain.has_target) {
        Plan::Plain(toolchain.clone())
    } else if let Some(toolchain) = usable().find(|toolchain| toolchain.has_source) {
        Plan::BuildStd(toolchain.clone())
    } else if machine.apt_as_root {
        Plan::InstallPackages
    } else {
        Plan::Stop
    }
}

/// Finds a toolchain for the components, installing Debian's packages where
/// that is what it takes. The plan is [`Plan::Plain`] or [`Plan::BuildStd`].
pub fn prepare(ui: &Ui, root: &Path) -> Result<Plan> {
    let first = plan(&survey(root)?);
    if first != Plan::InstallPackages {
        return settle(first);
    }
    ui.say(&format!(
        "The toolchain lacks the target {TARGET}, and its library source to build it from."
    ));
    setup::apt_install(
        ui,
        "Installing Debian's Rust, which has that source",
        &PACKAGES,
    )?;
    settle(plan(&survey(root)?))
}

fn settle(plan: Plan) -> Result<Plan> {
    match plan {
        Plan::Plain(_) | Plan::BuildStd(_) => Ok(plan),
        Plan::InstallPackages | Plan::Stop => bail!(
            "no Rust on this machine can compile for {TARGET}. With rustup, run\n    \
             rustup target add {TARGET}\n\
             On Debian without it, run as root\n    \
             apt-get update && apt-get install -y --no-install-recommends {}",
            PACKAGES.join(" ")
        ),
    }
}

fn survey(root: &Path) -> Result<Machine> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    // Beside cargo, unless that is only a name to look up on the path.
    let rustc = cargo.with_file_name("rustc");
    let rust_version = env!("CARGO_PKG_RUST_VERSION");
    Ok(Machine {
        oldest: Release::parse(rust_version)
            .with_context(|| format!("rust-version {rust_version} in Cargo.toml is no release"))?,
        pinned: inspect(root, Origin::Pinned, cargo, rustc),
        system: inspect(
            root,
            Origin::System,
            "/usr/bin/cargo".into(),
            "/usr/bin/rustc".into(),
        ),
        apt_as_root: setup::apt_as_root(),
    })
}

/// Asks a compiler about itself; none where it does not run.
fn inspect(root: &Path, origin: Origin, cargo: PathBuf, rustc: PathBuf) -> Option<Toolchain> {
    let ask = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .current_dir(root)
            .stdin(Stdio::null())
            .args(arguments);
        if origin == Origin::System {
            leave_rustup(&mut command);
        }
        let output = command
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    ask(&cargo, &["--version"])?;
    let version = ask(&rustc, &["--version"])?;
    let release = Release::parse(version.split(' ').nth(1)?)?;
    let sysroot = PathBuf::from(ask(&rustc, &["--print", "sysroot"])?);
    let libraries = ask(&rustc, &["--print", "target-libdir", "--target", TARGET]);
    let host = ask(&rustc, &["--print", "host-tuple"])?;
    let library_source = sysroot.join("lib/rustlib/src/rust/library");
    let own_linker = sysroot.join("lib/rustlib").join(host).join("bin");
    Some(Toolchain {
        origin,
        has_target: libraries.is_some_and(|folder| has_standard_library(Path::new(&folder))),
        has_source: library_source.join("Cargo.lock").is_file()
            && library_source.join("std/Cargo.toml").is_file(),
        has_linker: setup::program_in("rust-lld", [own_linker])
            .or_else(|| setup::program("rust-lld"))
            .is_some(),
        cargo,
        rustc,
        release,
        version,
    })
}

fn has_standard_library(folder: &Path) -> bool {
    folder.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

/// Takes away what rustup and the cargo that runs this driver tell their
/// children, so that another toolchain is not sent back to the pinned one.
pub fn leave_rustup(command: &mut Command) {
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTUP_TOOLCHAIN_SOURCE",
        "RUST_RECURSION_COUNT",
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        // Names the pinned toolchain's own shared libraries.
        "LD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
    ] {
        command.env_remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(origin: Origin, minor: u32, has_target: bool, has_source: bool) -> Toolchain {
        Toolchain {
            origin,
            cargo: "cargo".into(),
            rustc: "rustc".into(),
            release: Release(1, minor),
            version: format!("rustc 1.{minor}.0"),
            has_target,
            has_source,
            has_linker: true,
        }
    }

    fn machine(pinned: Option<Toolchain>, system: Option<Toolchain>, apt: bool) -> Machine {
        Machine {
            oldest: Release(1, 95),
            pinned,
            system,
            apt_as_root: apt,
        }
    }

    #[test]
    fn the_pinned_toolchain_with_the_target_builds_plainly() {
        let pinned = toolchain(Origin::Pinned, 95, true, true);
        let system = toolchain(Origin::System, 96, true, true);
        let machine = machine(Some(pinned.clone()), Some(system), true);
        assert_eq!(plan(&machine), Plan::Plain(pinned));
    }

    #[test]
    fn the_systems_target_is_preferred_to_a_built_standard_library() {
        let pinned = toolchain(Origin::Pinned, 95, false, true);
        let system = toolchain(Origin::System, 96, true, false);
        let machine = machine(Some(pinned), Some(system.clone()), true);
        assert_eq!(plan(&machine), Plan::Plain(system));
    }

    #[test]
    fn the_pinned_source_is_preferred_to_the_systems() {
        let pinned = toolchain(Origin::Pinned, 95, false, true);
        let system = toolchain(Origin::System, 96, false, true);
        let machine = machine(Some(pinned.clone()), Some(system), true);
        assert_eq!(plan(&machine), Plan::BuildStd(pinned));
    }

    #[test]
    fn the_systems_source_does_where_the_pinned_toolchain_has_nothing() {
        let pinned = toolchain(Origin::Pinned, 95, false, false);
        let system = toolchain(Origin::System, 96, false, true);
        let machine = machine(Some(pinned), Some(system.clone()), true);
        assert_eq!(plan(&machine), Plan::BuildStd(system));
    }

    #[test]
    fn a_system_toolchain_that_is_too_old_is_as_good_as_none() {
        let pinned = toolchain(Origin::Pinned, 95, false, false);
        let old = toolchain(Origin::System, 63, true, true);
        assert_eq!(
            plan(&machine(Some(pinned), Some(old), true)),
            Plan::InstallPackages
        );
    }

    #[test]
    fn a_toolchain_without_a_linker_is_completed_by_packages() {
        let mut system = toolchain(Origin::System, 96, false, true);
        system.has_linker = false;
        assert_eq!(
            plan(&machine(None, Some(system), true)),
            Plan::InstallPackages
        );
    }

    #[test]
    fn packages_are_installed_only_by_root_with_apt() {
        let pinned = toolchain(Origin::Pinned, 95, false, false);
        assert_eq!(
            plan(&machine(Some(pinned.clone()), None, true)),
            Plan::InstallPackages
        );
        assert_eq!(plan(&machine(Some(pinned), None, false)), Plan::Stop);
    }

    #[test]
    fn a_machine_that_cannot_be_helped_is_told_both_commands() {
        let error = settle(Plan::Stop).unwrap_err().to_string();
        assert!(error.contains("rustup target add wasm32-unknown-unknown"));
        assert!(error.contains("apt-get install -y --no-install-recommends rustc-web cargo-web"));
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(Release::parse("1.100.0-nightly").unwrap() > Release::parse("1.95").unwrap());
        assert_eq!(Release::parse("unknown"), None);
    }
}
