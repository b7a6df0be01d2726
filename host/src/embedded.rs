//! The component in this library, and the code compiled of it ahead of time:
//! loading that takes a millisecond, compiling it again most of a second.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine::configuration;
use crate::error::BuildError;

/// The component that `cargo xtask build` makes; empty where it has not run.
static COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.wasm"));

/// The SHA-256 digest of [`COMPONENT`].
static DIGEST: &[u8; DIGEST_LENGTH] = include_bytes!(concat!(env!("OUT_DIR"), "/component.sha256"));

/// What [`precompile_component`] gave in an earlier build, perhaps of another
/// component; empty where there was none.
static PRECOMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.cwasm"));

const DIGEST_LENGTH: usize = 32;

/// The component in this library, ready to be linked.
pub(crate) fn component(engine: &Engine) -> Result<Component, BuildError> {
    if COMPONENT.is_empty() {
        return Err(BuildError::NoComponent);
    }
    load(engine, COMPONENT, DIGEST, PRECOMPILED).map_err(|e| BuildError::Component(e.into()))
}

/// Compiles the component in this library ahead of time, for any processor of
/// the kind that the library is built for. `cargo xtask build` embeds the result
/// in the library's next build, so that hosts need not compile it.
///
/// # Errors
/// [`BuildError::NoComponent`]; [`BuildError::Component`].
pub fn precompile_component() -> Result<Vec<u8>, BuildError> {
    if COMPONENT.is_empty() {
        return Err(BuildError::NoComponent);
    }
    precompile(COMPONENT, DIGEST).map_err(|e| BuildError::Component(e.into()))
}

fn precompile(component: &[u8], digest: &[u8; DIGEST_LENGTH]) -> wasmtime::Result<Vec<u8>> {
    let mut config = configuration();
    // Named, it stands for its plainest processor; unnamed, for this very one.
    config.target(env!("TOKENWELL_TARGET"))?;
    let code = Engine::new(&config)?.precompile_component(component)?;
    Ok([&digest[..], &code].concat())
}

/// Loads what [`precompile`] made of this component, or compiles the component
/// where that is not there or of no use here.
fn load(
    engine: &Engine,
    component: &[u8],
    digest: &[u8; DIGEST_LENGTH],
    precompiled: &[u8],
) -> wasmtime::Result<Component> {
    match load_precompiled(engine, digest, precompiled) {
        Some(component) => Ok(component),
        None => Component::new(engine, component),
    }
}

/// None where it was made of another component, or is not for this engine or
/// this processor.
#[allow(unsafe_code, reason = "wasmtime cannot tell what code it compiled")]
fn load_precompiled(
    engine: &Engine,
    digest: &[u8; DIGEST_LENGTH],
    precompiled: &[u8],
) -> Option<Component> {
    let code = precompiled.strip_prefix(&digest[..])?;
    // SAFETY: the code must be wasmtime's own output. It comes from the file
    // that the library's build embedded, which the build driver has this
    // library write with `precompile`, and is as much a part of the program as
    // what the Rust compiler made. Wasmtime itself refuses what it made in
    // another version, with other settings or for another processor.
    unsafe { Component::deserialize(engine, code) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with nothing in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    const OF_EMPTY: &[u8; DIGEST_LENGTH] = &[1; DIGEST_LENGTH];
    const OF_ANOTHER: &[u8; DIGEST_LENGTH] = &[2; DIGEST_LENGTH];

    fn engine() -> Engine {
        Engine::new(&configuration()).unwrap()
    }

    #[test]
    fn the_embedded_code_is_the_one_in_use() {
        assert_eq!(
            load_precompiled(&engine(), DIGEST, PRECOMPILED).is_some(),
            !PRECOMPILED.is_empty(),
            "`cargo xtask build` makes it anew"
        );
    }

    #[test]
    fn code_compiled_ahead_of_time_is_loaded_without_the_component() {
        let precompiled = precompile(EMPTY, OF_EMPTY).unwrap();
        load(&engine(), b"not compiled", OF_EMPTY, &precompiled).unwrap();
    }

    #[test]
    fn code_of_another_component_is_not_used() {
        let stale = precompile(EMPTY, OF_ANOTHER).unwrap();
        assert!(load_precompiled(&engine(), OF_EMPTY, &stale).is_none());
        load(&engine(), EMPTY, OF_EMPTY, &stale).unwrap();
    }

    #[test]
    fn code_for_an_engine_with_other_settings_is_not_used() {
        let mut other = configuration();
        other.epoch_interruption(false);
        let code = Engine::new(&other)
            .unwrap()
            .precompile_component(EMPTY)
            .unwrap();
        let foreign = [&OF_EMPTY[..], &code].concat();
        assert!(load_precompiled(&engine(), OF_EMPTY, &foreign).is_none());
        load(&engine(), EMPTY, OF_EMPTY, &foreign).unwrap();
    }

    #[test]
    fn without_code_the_component_is_compiled() {
        load(&engine(), EMPTY, OF_EMPTY, &[]).unwrap();
    }
}
