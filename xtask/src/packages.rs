//! The packages for other languages: each builds itself with the component,
//! installs what it has built somewhere clean, and tests what is installed.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::python;
use crate::run::Ui;
use crate::setup::{Parts, program};
use crate::suite::Tally;

/// A package, and the command that tests it.
struct Package {
    /// What a filter calls it.
    name: &'static str,
    /// Its folder.
    folder: &'static str,
    /// The part that it cannot be tested without.
    part: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

/// Python's first: with the environment that it leaves, Node's tests try what
/// the languages share.
const PACKAGES: [Package; 2] = [
    Package {
        name: "python",
        folder: "host/python",
        part: "python",
        program: "python3",
        arguments: &["verify.py"],
    },
    Package {
        name: "node",
        folder: "host/node",
        part: "node",
        program: "npm",
        arguments: &["test"],
    },
];

/// The packages that the filters name, all of them where there is no filter, and
/// the filters that name none.
pub fn chosen(filters: &[String]) -> (Vec<&'static str>, Vec<&str>) {
    let names = PACKAGES.iter().map(|package| package.name);
    if filters.is_empty() {
        return (names.collect(), Vec::new());
    }
    let filters = || filters.iter().map(String::as_str);
    let chosen: Vec<_> = names
        .filter(|name| filters().any(|filter| filter == *name))
        .collect();
    let others = filters()
        .filter(|filter| !chosen.contains(filter))
        .collect();
    (chosen, others)
}

/// Tests the chosen packages.
pub fn test(
    ui: &Ui,
    root: &Path,
    parts: &Parts,
    environment: &[(&'static str, std::ffi::OsString)],
    chosen: &[&str],
    tally: &mut Tally,
) -> Result<()> {
    for package in &PACKAGES {
        let lacking = parts
            .missing
            .iter()
            .any(|missing| missing.part == package.part);
        if lacking || !chosen.contains(&package.name) {
            continue;
        }
        let mut command =
            Command::new(program(package.program).unwrap_or_else(|| package.program.into()));
        command
            .current_dir(root.join(package.folder))
            .args(package.arguments)
            .envs(environment.iter().cloned())
            .env("TOKENWELL_CLI", root.join("target/release/tokenwell"));
        let interpreter = python::interpreter(&root.join("target/python/environment"));
        if interpreter.is_file() {
            command.env("TOKENWELL_PYTHON", interpreter);
        }
        let mut summary = Summary::default();
        let what = format!("Running the tests of the package in {}", package.folder);
        let finished = ui.watch(&what, command, None, |line| summary.read(line))?;
        if !finished.success && summary.failed == 0 {
            // It could not be built or installed, for one.
            summary.failed = 1;
        }
        ui.say(&format!(
            "  {:>4} passed, {} failed: {}",
            summary.passed, summary.failed, package.folder
        ));
        if summary.failed > 0 && !ui.verbose() {
            eprintln!("{}", finished.output);
        }
        tally.passed += summary.passed;
        tally.failed += summary.failed;
    }
    Ok(())
}

/// What the tests of a package came to.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    passed: u32,
    failed: u32,
}

impl Summary {
    /// Reads `# pass 12` and `# fail 1` of the Test Anything Protocol, or
    /// `1 failed, 12 passed in 3.45s` of pytest. Passes on what was left out.
    fn read(&mut self, line: &str) -> Option<String> {
        if line.contains("NOT TESTED: ") {
            return Some(format!("  {}", line.trim_start_matches("# ")));
        }
        let count = |text: &str| text.trim().parse::<u32>().ok();
        if let Some(passed) = line.strip_prefix("# pass ").and_then(count) {
            self.passed = passed;
        } else if let Some(failed) = line.strip_prefix("# fail ").and_then(count) {
            self.failed = failed;
        } else if let Some((counts, _)) = line.trim_matches(['=', ' ']).split_once(" in ") {
            let counts = || counts.split(", ").filter_map(|part| part.split_once(' '));
            let of = |wanted: &[&str]| {
                let of = counts().filter(|(_, what)| wanted.contains(what));
                of.filter_map(|(number, _)| count(number)).sum()
            };
            let (passed, failed) = (of(&["passed"]), of(&["failed", "error", "errors"]));
            if passed + failed > 0 {
                *self = Self { passed, failed };
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(output: &str) -> Summary {
        let mut summary = Summary::default();
        for line in output.lines() {
            summary.read(line);
        }
        summary
    }

    #[test]
    fn the_summary_of_nodes_tests_is_read() {
        let output = "ok 1 - a\n1..3\n# tests 3\n# pass 2\n# fail 1\n# duration_ms 12.3\n";
        let (passed, failed) = (2, 1);
        assert_eq!(summary(output), Summary { passed, failed });
    }

    #[test]
    fn the_summary_of_pytest_is_read() {
        for (line, passed, failed) in [
            ("12 passed in 3.45s", 12, 0),
            ("==== 1 failed, 12 passed, 2 warnings in 3.45s ====", 12, 1),
            ("2 passed, 1 skipped, 1 error in 0.10s", 2, 1),
            ("one thing in another", 0, 0),
        ] {
            assert_eq!(summary(line), Summary { passed, failed }, "{line}");
        }
    }

    #[test]
    fn a_filter_that_names_a_package_chooses_it() {
        let filters = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(chosen(&[]), (vec!["python", "node"], vec![]));
        let named = filters(&["python", "renewal"]);
        assert_eq!(chosen(&named), (vec!["python"], vec!["renewal"]));
        assert!(chosen(&filters(&["renewal"])).0.is_empty());
    }
}
