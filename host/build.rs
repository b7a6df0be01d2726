//! Puts the component that `cargo xtask build` makes where the library embeds
//! it. Without one the library still builds; a host then has to be given one.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=TOKENWELL_COMPONENT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let component = match env::var_os("TOKENWELL_COMPONENT") {
        Some(path) => PathBuf::from(path),
        None => target_directory(&out).join("component/tokenwell-interactive.wasm"),
    };
    println!("cargo::rerun-if-changed={}", component.display());
    let bytes = fs::read(&component).unwrap_or_else(|error| {
        println!(
            "cargo::warning=no component in this build ({}: {error}); `cargo xtask build` makes it",
            component.display()
        );
        Vec::new()
    });
    fs::write(out.join("component.wasm"), bytes).expect("OUT_DIR can be written");
}

/// The target directory of this build, which no variable names: OUT_DIR is
/// `TARGET/[TRIPLE/]PROFILE/build/PACKAGE/out`.
fn target_directory(out: &Path) -> PathBuf {
    if let Some(directory) = env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(directory);
    }
    let profile = out.ancestors().nth(3).unwrap_or(out);
    let above = profile.parent().unwrap_or(profile);
    let triple = env::var("TARGET").unwrap_or_default();
    if above
        .file_name()
        .is_some_and(|name| name == triple.as_str())
    {
        above.parent().unwrap_or(above).to_owned()
    } else {
        above.to_owned()
    }
}
