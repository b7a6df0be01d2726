//! Runs the benchmarks, those of the packages for other languages too where they
//! are asked for, and keeps their numbers for the next run to compare with.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail};
use serde_json::Value;

use crate::numbers::{Group, Report};
use crate::python;
use crate::run::{Ui, artifacts};
use crate::setup::{node, npm_packages, program};

/// The benchmarks, and what they are told on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// One JSON object in place of the table.
    pub json: bool,
    /// The packages for other languages as well.
    pub hosts: bool,
}

/// Runs the benchmarks and prints what they found.
pub fn run(ui: &Ui, root: &Path, options: Options) -> Result<()> {
    let mut build = crate::cargo(root);
    build.args(["build", "--release", "--package", "tokenwell-bench"]);
    build.arg("--message-format=json-render-diagnostics");
    let built = ui.run("Building the benchmarks", build)?;
    let program = artifacts(&built).find_map(|artifact| artifact.executable);
    let program = program.context("cargo built no program from the package `tokenwell-bench`")?;
    let mut groups = Group::all_of(&found_by(Command::new(program))?)?;
    if options.hosts {
        for command in packages(ui, root)? {
            groups.push(Group::of_package(&found_by(command)?)?);
        }
    }

    let kept = root.join("target/bench.json");
    let report = Report {
        groups,
        before: fs::read(&kept)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok()),
    };
    if options.json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.table());
    }
    let numbers = format!("{:#}\n", report.numbers());
    fs::write(&kept, numbers).with_context(|| format!("cannot write {}", kept.display()))
}

/// The benchmarks of the packages for other languages, with all that they need.
fn packages(ui: &Ui, root: &Path) -> Result<[Command; 2]> {
    node().map_err(Error::msg)?;
    let server = root.join("tests/servers/oidc-provider");
    npm_packages(ui, &server, "the benchmarks").map_err(Error::msg)?;
    let mut node = Command::new(program("npm").context("npm is not installed")?);
    node.current_dir(root.join("host/node"));
    node.args(["run", "--silent", "bench", "--", "--json"]);
    // It would install the browser's driver for the tests.
    node.env("TOKENWELL_TEST_WITHOUT", "browser");

    let folder = root.join("host/python");
    let mut prepare = Command::new(program("python3").context("Python is not installed")?);
    prepare.current_dir(&folder);
    prepare.args(["-c", "import verify; verify.prepare()"]);
    ui.run("Installing the package for Python", prepare)?;
    let environment = root.join("target/python/environment");
    let mut python = Command::new(python::interpreter(&environment));
    python.current_dir(folder).args(["bench.py", "--json"]);
    Ok([node, python])
}

/// The JSON that a benchmark prints. What it says of its progress is shown.
fn found_by(mut command: Command) -> Result<Value> {
    let program = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed; what it says is above");
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{program} printed no JSON of a benchmark"))
}
