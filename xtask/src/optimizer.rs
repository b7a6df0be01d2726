//! Binaryen's wasm-opt, which takes about a tenth off a component made small. It
//! comes as an npm package, since Node is here for the tests anyway and compiling
//! it would take longer than everything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::component::Aim;
use crate::run::Ui;
use crate::setup;

/// What the compiler may have used and the optimizer must know to be allowed.
const FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// For size, the names kept for the table of what takes the space; flattened and
/// put together anew in between, which finds another hundredth. Nothing is in the
/// first kilobyte of memory, which is the far end of the stack, so that an
/// address and what is added to it need not be computed apart.
const PASSES_FOR_SIZE: [&str; 7] = [
    "-g",
    "--low-memory-unused",
    "-Oz",
    "--flatten",
    "--rereloop",
    "-Oz",
    "-Oz",
];

/// For speed.
const PASSES_FOR_SPEED: [&str; 3] = ["-g", "--low-memory-unused", "-O3"];

/// wasm-opt, where it can be had.
pub struct Optimizer {
    program: Option<(PathBuf, PathBuf)>,
    /// Where it works.
    folder: PathBuf,
}

impl Optimizer {
    /// Sets it up. A machine without Node does without: what it builds is
    /// larger and does the same.
    pub fn prepare(ui: &Ui, root: &Path) -> Self {
        let folder = root.join("xtask/wasm-opt");
        let found = setup::node().and_then(|node| {
            setup::npm_packages(ui, &folder, "the build")?;
            Ok((node, folder.join("node_modules/binaryen/bin/wasm-opt")))
        });
        let program = match found {
            Ok(program) => Some(program),
            Err(why) => {
                ui.say(&format!(
                    "The components are a tenth larger than need be, without wasm-opt: {why}."
                ));
                None
            }
        };
        Self {
            program,
            folder: root.join("target/guest"),
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.program.is_some()
    }

    /// What it is, for the digest of what a component is made of.
    pub fn identity(&self) -> &'static str {
        match self.program {
            Some(_) => include_str!("../wasm-opt/package-lock.json"),
            None => "none",
        }
    }

    /// The module made smaller or faster, the names of its functions kept; `what`
    /// is made of it.
    pub fn optimize(&self, ui: &Ui, module: Vec<u8>, aim: Aim, what: &str) -> Result<Vec<u8>> {
        let Some((node, program)) = &self.program else {
            return Ok(module);
        };
        let input = self.folder.join("unoptimized.wasm");
        let output = self.folder.join("optimized.wasm");
        fs::write(&input, module).with_context(|| format!("cannot write {}", input.display()))?;
        let mut command = Command::new(node);
        let passes: &[&str] = match aim {
            Aim::Size => &PASSES_FOR_SIZE,
            Aim::Speed => &PASSES_FOR_SPEED,
        };
        command.arg(program).args(passes).args(FEATURES);
        command.arg(&input).arg("-o").arg(&output);
        ui.run(&format!("Optimizing {what}"), command)?;
        fs::read(&output).with_context(|| format!("cannot read {}", output.display()))
    }
}
