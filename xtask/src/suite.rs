//! Runs the tests and sums up: what passed, and what was not tested.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::packages;
use crate::run::Ui;
use crate::setup::{Missing, Parts};

/// The packages tested apart from the rest. Cargo unites the features of what
/// the packages it is given depend on, and with these among them it would
/// compile wasmtime a second time, otherwise than for the CLI.
const APART: [&str; 3] = ["tokenwell-connection", "tokenwell-tests", "xtask"];

/// The packages without tests: the benchmarks, which take long to compile, and
/// what the tests have as components.
const UNTESTED: [&str; 3] = [
    "tokenwell-bench",
    "tokenwell-test-hostile",
    "tokenwell-test-plugins",
];

/// The longest that the fault tests may take.
const FAULTS_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The modules of the fault tests: the explorer in the core, and those of the
/// host that need real parts.
const FAULTS: [&str; 6] = [
    "connection::explore::",
    "clock::",
    "kills::",
    "races::",
    "sick_stores::",
    "stores::",
];

/// Runs the tests of the whole workspace.
///
/// Filters that name a package for another language choose it; without filters
/// all are tested.
pub fn test(ui: &Ui, root: &Path, parts: &Parts, filters: &[String]) -> Result<ExitCode> {
    let (chosen, others) = packages::chosen(filters);
    let rust = filters.is_empty() || !others.is_empty();
    let environment = environment(parts, false);
    let apart = APART.iter().flat_map(|name| ["--package", name]).collect();
    let mut tally = Tally::default();
    let phases: [(&str, Vec<&str>); 2] = [
        ("Running the tests of the product", together()),
        ("Running the tests that cross its parts", apart),
    ];
    for (what, packages) in phases.into_iter().filter(|_| rust) {
        let mut command = crate::cargo(root);
        command.args(["test", "--release", "--no-fail-fast"]);
        command.args(packages).arg("--").args(&others);
        command.envs(environment.clone());
        run(ui, what, command, None, &mut tally)?;
    }
    packages::test(ui, root, parts, &environment, &chosen, &mut tally)?;
    conclude(ui, parts, &tally)
}

/// Runs the fault tests in full; with filters, those among them.
pub fn faults(ui: &Ui, root: &Path, parts: &Parts, filters: &[String]) -> Result<ExitCode> {
    let chosen: Vec<&str> = match filters {
        [] => FAULTS.to_vec(),
        filters => filters.iter().map(String::as_str).collect(),
    };
    let command = |more: &[&str]| {
        let mut command = crate::cargo(root);
        command.args(["test", "--release", "--no-fail-fast"]);
        command
            .args(together())
            .args(["--lib", "--test", "real_parts"]);
        command.args(more);
        command
    };
    // Compiling does not count against their time.
    ui.run("Compiling the fault tests", command(&["--no-run"]))?;
    let mut running = command(&["--"]);
    running.args(chosen).envs(environment(parts, true));
    let mut tally = Tally::default();
    let what = "Running the fault tests in full";
    run(ui, what, running, Some(FAULTS_LIMIT), &mut tally)?;
    conclude(ui, parts, &tally)
}

/// The packages that are tested together.
fn together() -> Vec<&'static str> {
    let apart = APART.iter().chain(&UNTESTED);
    let apart = apart.flat_map(|name| ["--exclude", name]);
    std::iter::once("--workspace").chain(apart).collect()
}

fn run(
    ui: &Ui,
    what: &str,
    command: Command,
    limit: Option<Duration>,
    tally: &mut Tally,
) -> Result<()> {
    let failed_before = tally.failed;
    let finished = ui.watch(what, command, limit, |line| tally.read(line))?;
    if let Some(line) = tally.end() {
        ui.say(&line);
    }
    if !finished.success {
        if !ui.verbose() {
            eprintln!("{}", failures(&finished.output));
        }
        if tally.failed == failed_before {
            // They do not compile, for one.
            tally.failed += 1;
        }
    }
    Ok(())
}

/// Sums up.
fn conclude(ui: &Ui, parts: &Parts, tally: &Tally) -> Result<ExitCode> {
    if tally.ignored > 0 {
        ui.say(&format!("{} are ignored unless asked for.", tally.ignored));
    }
    if !parts.missing.is_empty() {
        ui.say(&boxed(&parts.missing));
    }
    if tally.passed == 0 && tally.failed == 0 {
        bail!("no test has such a name");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the tests are told. Without `TOKENWELL_TEST_WITHOUT`, a real part
/// that is not there fails the test that needs it.
fn environment(parts: &Parts, faults: bool) -> Vec<(&'static str, OsString)> {
    let mut variables = Vec::new();
    if !parts.missing.is_empty() {
        let names: Vec<&str> = parts.missing.iter().map(|missing| missing.part).collect();
        variables.push(("TOKENWELL_TEST_WITHOUT", names.join(",").into()));
    }
    if let Some(chromium) = &parts.chromium {
        variables.push(("CHROMIUM", chromium.into()));
    }
    if faults {
        variables.push(("TOKENWELL_FAULTS", "full".into()));
    }
    variables
}

/// Adds up what the test programs say of themselves.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    ignored: u32,
    /// The test program that has not given its result yet.
    running: Option<String>,
}

impl Tally {
    /// Reads a line of output; gives a line on each test program that has
    /// tests, and passes on what the tests say they left out.
    fn read(&mut self, line: &str) -> Option<String> {
        if line.contains("NOT TESTED: ") || line.contains("FAULTS: ") {
            return Some(format!("  {line}"));
        }
        if let Some(name) = started(line) {
            let broken = self.end();
            self.running = Some(name);
            return broken;
        }
        let counts = Counts::parse(line)?;
        self.passed += counts.passed;
        self.failed += counts.failed;
        self.ignored += counts.ignored;
        let name = self.running.take().unwrap_or_default();
        if counts.passed + counts.failed == 0 {
            return None;
        }
        Some(format!(
            "  {:>4} passed, {} failed: {name}",
            counts.passed, counts.failed
        ))
    }

    /// A test program that ends without a result has broken off, which is a
    /// failure of its own.
    fn end(&mut self) -> Option<String> {
        let name = self.running.take()?;
        self.failed += 1;
        Some(format!("  broken off: {name}"))
    }
}

/// The name of the test program that a line says is run now.
fn started(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("Doc-tests ") {
        return Some(format!("documentation of {rest}"));
    }
    let rest = line.strip_prefix("Running ")?;
    // `unittests src/lib.rs (target/release/deps/name-0123456789abcdef)`
    let (source, program) = rest.split_once(" (")?;
    let program = program.trim_end_matches(')');
    let program = program.rsplit(['/', '\\']).next().unwrap_or(program);
    let name = program.rsplit_once('-').map_or(program, |(name, _)| name);
    let source = source.strip_prefix("unittests ").unwrap_or(source);
    Some(format!("{name} ({source})"))
}

/// One test program's result.
#[derive(Debug, PartialEq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn parse(line: &str) -> Option<Self> {
        // Not only at the start: a test's own output may lack its last
        // newline.
        let (_, result) = line.split_once("test result: ")?;
        let count = |what: &str| -> Option<u32> {
            let part = result.split(['.', ';']).map(str::trim);
            part.filter_map(|part| part.strip_suffix(what))
                .find_map(|number| number.trim().parse().ok())
        };
        Some(Self {
            passed: count(" passed")?,
            failed: count(" failed")?,
            ignored: count(" ignored")?,
        })
    }
}

/// The part of cargo's output that tells why it failed: without the lines of
/// the tests that passed and of what was compiled.
fn failures(output: &str) -> String {
    let dull = |line: &&str| {
        let line = line.trim();
        (line.starts_with("test ") && line.ends_with("... ok"))
            || line.starts_with("test result: ok.")
            || [
                "Compiling ",
                "Downloaded ",
                "Downloading ",
                "running 0 tests",
            ]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let mut lines = Vec::new();
    for line in output.lines().filter(|line| !dull(line)) {
        if !(line.is_empty() && lines.last().is_some_and(|last: &&str| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What was not tested, so that nobody overlooks it.
fn boxed(missing: &[Missing]) -> String {
    let mut lines = vec!["NOT TESTED on this machine".to_owned()];
    for Missing { untested, why, .. } in missing {
        lines.push(String::new());
        lines.push(format!("- {untested}:"));
        lines.extend(why.lines().map(|line| format!("  {line}")));
    }
    let width = lines.iter().map(|line| line.chars().count()).max();
    let width = width.unwrap_or_default();
    let edge = format!("+{}+", "-".repeat(width + 2));
    let rows = lines.iter().map(|line| format!("| {line:<width$} |"));
    let all: Vec<String> = std::iter::once(edge.clone())
        .chain(rows)
        .chain([edge])
        .collect();
    all.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(output: &str) -> (Tally, Vec<String>) {
        let mut tally = Tally::default();
        let mut shown: Vec<String> = output.lines().filter_map(|line| tally.read(line)).collect();
        shown.extend(tally.end());
        (tally, shown)
    }

    #[test]
    fn the_results_of_all_test_programs_are_summed() {
        let (tally, shown) = read_all(
            "     Running unittests src/lib.rs (target/release/deps/tokenwell_core-0c5)\n\
             test a ... ok\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
             \x20    Running tests/browser.rs (target/release/deps/browser-1a2)\n\
             warming uptest result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n\
             \x20  Doc-tests tokenwell\n\
             test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.ignored), (15, 2, 1));
        assert_eq!(
            shown,
            [
                "    12 passed, 0 failed: tokenwell_core (src/lib.rs)",
                "     3 passed, 2 failed: browser (tests/browser.rs)"
            ]
        );
    }

    #[test]
    fn a_test_program_without_a_result_is_a_failure() {
        let (tally, shown) = read_all(
            "     Running tests/one.rs (target/release/deps/one-1a2)\n\
             test a ... ok\n\
             \x20    Running tests/two.rs (target/release/deps/two-1a2)\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             \x20    Running tests/three.rs (target/release/deps/three-1a2)\n",
        );
        assert_eq!((tally.passed, tally.failed), (1, 2));
        assert!(
            shown.iter().any(|line| line.contains("broken off: one")),
            "{shown:?}"
        );
        assert!(
            shown.iter().any(|line| line.contains("broken off: three")),
            "{shown:?}"
        );
    }

    #[test]
    fn what_failed_is_shown_without_what_passed() {
        let shown = failures(
            "   Compiling a v1.0.0\n\nrunning 2 tests\ntest good ... ok\ntest bad ... FAILED\n\n\
             failures:\n\n---- bad stdout ----\nassertion failed\n",
        );
        assert_eq!(
            shown,
            "\nrunning 2 tests\ntest bad ... FAILED\n\nfailures:\n\n\
             ---- bad stdout ----\nassertion failed"
        );
    }

    #[test]
    fn missing_parts_are_named_to_the_tests() {
        let missing = |part| Missing {
            part,
            untested: "something",
            why: "no reason".into(),
        };
        let parts = Parts {
            chromium: None,
            missing: vec![missing("node"), missing("browser")],
        };
        assert_eq!(
            environment(&parts, false),
            [("TOKENWELL_TEST_WITHOUT", OsString::from("node,browser"))]
        );
    }

    #[test]
    fn nothing_is_left_out_where_every_part_is_there() {
        let parts = Parts {
            chromium: Some("/usr/bin/chromium".into()),
            missing: Vec::new(),
        };
        assert_eq!(
            environment(&parts, true),
            [
                ("CHROMIUM", OsString::from("/usr/bin/chromium")),
                ("TOKENWELL_FAULTS", OsString::from("full"))
            ]
        );
    }

    #[test]
    fn the_box_says_what_was_not_tested_and_why() {
        let shown = boxed(&[Missing {
            part: "browser",
            untested: "a browser",
            why: "none installed\nand no root".into(),
        }]);
        assert!(shown.contains("NOT TESTED"), "{shown}");
        assert!(shown.contains("|   and no root"), "{shown}");
        let widths: Vec<usize> = shown.lines().map(str::len).collect();
        assert!(widths.iter().all(|width| Some(width) == widths.first()));
    }
}
