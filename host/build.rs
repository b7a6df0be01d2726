//! Puts the component that `cargo xtask build` makes for speed where the library
//! embeds it, with its digest and the code compiled of it ahead of time. Without
//! a component the library still builds; a host then has to be given one.
//!
//! It is looked for in the target directory of this build, then in that of the
//! checkout that this crate is part of: a platform that depends on the library has
//! a workspace and a target directory of its own.

use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-env-changed=TOKENWELL_COMPONENT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let (component, precompiled) = match env::var_os("TOKENWELL_COMPONENT") {
        Some(path) => (PathBuf::from(path), None),
        None => {
            let folder = component_folder(&out);
            let precompiled = folder.join("tokenwell-interactive-fast.cwasm");
            (
                folder.join("tokenwell-interactive-fast.wasm"),
                Some(precompiled),
            )
        }
    };
    println!("cargo::rerun-if-changed={}", component.display());
    let bytes = fs::read(&component).unwrap_or_else(|error| {
        println!(
            "cargo::warning=no component in this build ({}: {error}); `cargo xtask build` makes it",
            component.display()
        );
        Vec::new()
    });
    let precompiled = precompiled.and_then(|path| {
        let found = fs::read(&path).ok();
        // Cargo takes a file that is not there for one that has changed, each
        // time. Its folder tells when it comes.
        let watched = match (&found, path.parent()) {
            (None, Some(folder)) => folder,
            _ => &path,
        };
        println!("cargo::rerun-if-changed={}", watched.display());
        found
    });
    let target = env::var("TARGET").expect("cargo sets TARGET");
    println!("cargo::rustc-env=TOKENWELL_TARGET={target}");
    for (name, content) in [
        ("component.sha256", &Sha256::digest(&bytes)[..]),
        ("component.wasm", &bytes),
        ("component.cwasm", precompiled.as_deref().unwrap_or(&[])),
    ] {
        fs::write(out.join(name), content).expect("OUT_DIR can be written");
    }
}

/// Where the component is, or would be.
fn component_folder(out: &Path) -> PathBuf {
    let folder = target_directory(out).join("component");
    let checkout = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let there = checkout.map(|host| host.join("../target/component"));
    match there.and_then(|there| there.canonicalize().ok()) {
        Some(there) if !folder.exists() => there,
        _ => folder,
    }
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
