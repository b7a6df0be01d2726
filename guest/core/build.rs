//! Compiles the provider catalogue: data in, data out.

use std::error::Error;
use std::path::Path;
use std::{env, fs};
use tokenwell_providers::compiler;

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    let directory = compiler::directory();
    println!("cargo::rerun-if-changed={}", directory.display());
    let catalogue = match compiler::compile(&directory) {
        Ok(catalogue) => catalogue,
        Err(problems) => {
            for problem in &problems {
                println!("cargo::error={problem}");
            }
            return Err("the provider catalogue is wrong".into());
        }
    };
    fs::write(Path::new(&out).join("catalogue.bin"), catalogue.packed)?;
    fs::write(Path::new(&out).join("fields.rs"), catalogue.constants)?;
    Ok(())
}
