//! Has the CLI compile the component that it embeds ahead of time, for its next
//! build to embed the code too: a command then starts without compiling.

use std::env::consts;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use sha2::{Digest as _, Sha256};

use crate::component::hex;
use crate::run::Ui;

/// What the code is made of, from the workspace's folder: the component, the
/// version of the compiler in the host, and how the host has it compile.
const INPUTS: [&str; 4] = [
    "target/component/tokenwell-interactive-fast.wasm",
    "Cargo.lock",
    "host/src/embedded.rs",
    "host/src/engine.rs",
];

/// The code, where the host embeds it from.
const CODE: &str = "target/component/tokenwell-interactive-fast.cwasm";

const STAMP: &str = "target/component/precompiled.stamp";

/// Makes the code with the CLI, unless it is there and nothing it is made of
/// has changed. Tells whether the CLI has to be built again.
pub fn make(ui: &Ui, root: &Path, mut cli: Command) -> Result<bool> {
    if is_current(root) {
        return Ok(false);
    }
    let code = root.join(CODE);
    // Moved into its place when it is whole.
    let temporary = code.with_extension("tmp");
    cli.arg("precompile-component").arg(&temporary);
    ui.run("Compiling the component ahead of time", cli)?;
    fs::rename(&temporary, &code).with_context(|| format!("cannot write {}", code.display()))?;
    let stamp = stamp_text(root).ok_or_else(|| anyhow!("{} is gone", code.display()))?;
    fs::write(root.join(STAMP), stamp).with_context(|| format!("cannot write {STAMP}"))?;
    Ok(true)
}

fn is_current(root: &Path) -> bool {
    let expected = stamp_text(root);
    expected.is_some() && fs::read_to_string(root.join(STAMP)).ok() == expected
}

/// What the stamp says when the code is made of these inputs, for this kind of
/// machine, and nobody has touched it since; none where a file is not there.
fn stamp_text(root: &Path) -> Option<String> {
    let mut text = format!("for {} {}\n", consts::ARCH, consts::OS);
    for file in INPUTS.iter().chain([&CODE]) {
        let content = fs::read(root.join(file)).ok()?;
        let _ = writeln!(text, "{file} {}", hex(&Sha256::digest(content)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A workspace with the inputs, and in place of the CLI a script that
    /// writes what it was told and how often it has run.
    struct Workspace(PathBuf);

    impl Workspace {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            for file in INPUTS {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            let workspace = Self(root);
            workspace.cli("echo run >> \"$(dirname \"$0\")/runs\"; echo \"$1\" > \"$2\"");
            workspace
        }

        fn cli(&self, script: &str) {
            fs::write(self.0.join("cli"), script).unwrap();
        }

        fn make(&self) -> Result<bool> {
            let mut cli = Command::new("sh");
            cli.arg(self.0.join("cli"));
            make(&Ui::new(false), &self.0, cli)
        }

        fn runs(&self) -> usize {
            let runs = fs::read_to_string(self.0.join("runs")).unwrap_or_default();
            runs.lines().count()
        }
    }

    impl Drop for Workspace {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_cli_writes_the_code_once() {
        let workspace = Workspace::new("once");
        assert!(workspace.make().unwrap());
        let code = fs::read_to_string(workspace.0.join(CODE)).unwrap();
        assert_eq!(code, "precompile-component\n");
        assert!(!workspace.make().unwrap());
        assert_eq!(workspace.runs(), 1);
    }

    #[test]
    fn the_code_is_made_again_when_something_it_is_made_of_changes() {
        let workspace = Workspace::new("inputs");
        workspace.make().unwrap();
        for (before, input) in INPUTS.iter().enumerate() {
            assert_eq!(workspace.runs(), before + 1);
            fs::write(workspace.0.join(input), "changed").unwrap();
            assert!(workspace.make().unwrap(), "{input}");
        }
    }

    #[test]
    fn code_that_was_touched_or_removed_is_made_again() {
        let workspace = Workspace::new("output");
        let code = workspace.0.join(CODE);
        workspace.make().unwrap();
        fs::write(&code, "touched").unwrap();
        assert!(workspace.make().unwrap());
        fs::remove_file(&code).unwrap();
        assert!(workspace.make().unwrap());
        assert_eq!(workspace.runs(), 3);
    }

    #[test]
    fn a_cli_that_fails_leaves_the_code_alone_and_is_run_again() {
        let workspace = Workspace::new("failure");
        workspace.make().unwrap();
        let code = workspace.0.join(CODE);
        let before = fs::read(&code).unwrap();
        fs::write(workspace.0.join("Cargo.lock"), "changed").unwrap();
        workspace.cli("echo half > \"$2\"; exit 1");
        for _ in 0..2 {
            assert!(workspace.make().is_err());
            assert_eq!(fs::read(&code).unwrap(), before);
        }
    }
}
