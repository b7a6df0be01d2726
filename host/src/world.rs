//! Whether a component that a platform gives is one that a host can run: one of
//! the world `tokenwell:oauth2/interactive-connection`.

use wasmtime::component::Component;

use crate::error::Misfit;

/// What a component may import.
const IMPORTS: [&str; 13] = [
    "tokenwell:oauth2/events@0.2.0",
    "tokenwell:oauth2/secrets@0.2.0",
    "tokenwell:oauth2/token-store@0.2.0",
    "tokenwell:oauth2/types@0.2.0",
    "tokenwell:oauth2/user-agent@0.2.0",
    "wasi:clocks/monotonic-clock@0.2.0",
    "wasi:clocks/wall-clock@0.2.0",
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:http/types@0.2.0",
    "wasi:io/error@0.2.0",
    "wasi:io/poll@0.2.0",
    "wasi:io/streams@0.2.0",
    "wasi:random/random@0.2.0",
];

/// The interface that the host calls most.
pub(crate) const CONNECTIONS: &str = "tokenwell:oauth2/connections@0.2.0";

/// What it must export.
const EXPORTS: [&str; 2] = [CONNECTIONS, "tokenwell:oauth2/interactive@0.2.0"];

/// Looks whether bytes are a component at all, by how they begin.
pub(crate) fn expect_component(bytes: &[u8]) -> Result<(), Misfit> {
    let found = match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => "a core module",
        [b'\0', b'a', b's', b'm', ..] => "WebAssembly of another version",
        [] => "nothing",
        _ => "what is no WebAssembly",
    };
    Err(Misfit::NoComponent { found })
}

/// Looks whether a component imports only what there is, and exports what is
/// called.
pub(crate) fn expect_world(component: &Component) -> Result<(), Misfit> {
    let (kind, engine) = (component.component_type(), component.engine());
    let foreign: Vec<_> = kind
        .imports(engine)
        .map(|(name, _)| name)
        .filter(|name| !IMPORTS.iter().any(|known| is_compatible(name, known)))
        .collect();
    if !foreign.is_empty() {
        return Err(Misfit::Imports {
            found: foreign.join(", "),
            expected: expected_for(&foreign, &IMPORTS),
        });
    }
    let exported: Vec<_> = kind.exports(engine).map(|(name, _)| name).collect();
    let missing = EXPORTS
        .iter()
        .find(|wanted| !exported.iter().any(|name| is_compatible(name, wanted)));
    match missing {
        None => Ok(()),
        Some(missing) => Err(Misfit::Exports {
            found: match &exported[..] {
                [] => "nothing".to_owned(),
                exported => exported.join(", "),
            },
            expected: (*missing).to_owned(),
        }),
    }
}

/// The known imports of the same interfaces in another version, where that is
/// all that is wrong; else all known ones.
fn expected_for(foreign: &[&str], known: &[&str]) -> String {
    let same = |found: &str| {
        known
            .iter()
            .find(|known| interface(known) == interface(found))
    };
    let versions: Option<Vec<&str>> = foreign.iter().map(|found| same(found).copied()).collect();
    versions.unwrap_or_else(|| known.to_vec()).join(", ")
}

/// Whether one name stands for the other: the same interface, in a version that
/// is compatible (0.2.1 for 0.2.0), as the linker has it.
fn is_compatible(found: &str, wanted: &str) -> bool {
    let track = |name: &str| {
        let (_, version) = name.split_once('@')?;
        let mut parts = version.split('.');
        let (major, minor) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(if major == "0" {
            (major, minor)
        } else {
            (major, String::new())
        })
    };
    interface(found) == interface(wanted) && track(found) == track(wanted)
}

fn interface(name: &str) -> &str {
    name.split_once('@')
        .map_or(name, |(interface, _)| interface)
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;
    use crate::engine::configuration;

    fn refusal(wat: &str) -> String {
        let engine = Engine::new(&configuration()).unwrap();
        let component = Component::new(&engine, wat::parse_str(wat).unwrap()).unwrap();
        expect_world(&component).unwrap_err().to_string()
    }

    #[test]
    fn bytes_that_are_no_component_are_told_by_what_they_are() {
        for (bytes, what) in [
            (&b"\0asm\x01\0\0\0"[..], "a core module"),
            (b"\0asm\x0c\0\x01\0", "another version"),
            (b"(component)", "no WebAssembly"),
            (b"", "nothing"),
        ] {
            let refusal = expect_component(bytes).unwrap_err().to_string();
            assert!(refusal.contains(what), "{refusal}");
            assert!(refusal.contains("interactive-connection"), "{refusal}");
        }
        assert!(expect_component(b"\0asm\x0d\0\x01\0").is_ok());
    }

    #[test]
    fn imports_that_there_are_not_are_told_with_those_that_there_are() {
        let refusal = refusal(
            r#"(component
                (import "wasi:random/random@0.2.0" (instance))
                (import "wasi:filesystem/types@0.2.0" (instance)))"#,
        );
        assert!(
            refusal.contains("imports wasi:filesystem/types@0.2.0;"),
            "{refusal}"
        );
        assert!(refusal.contains("wasi:io/streams@0.2.0"), "{refusal}");
    }

    #[test]
    fn an_import_of_another_version_is_told_with_the_one_that_there_is() {
        let refusal =
            refusal(r#"(component (import "tokenwell:oauth2/secrets@0.9.0" (instance)))"#);
        assert!(refusal.contains("secrets@0.9.0"), "{refusal}");
        assert!(refusal.contains("secrets@0.2.0"), "{refusal}");
        assert!(!refusal.contains("wasi:"), "{refusal}");
    }

    #[test]
    fn an_export_of_another_version_is_told_with_the_one_that_is_expected() {
        let refusal = refusal(
            r#"(component
                (instance $i)
                (export "tokenwell:oauth2/connections@1.0.0" (instance $i)))"#,
        );
        assert!(
            refusal.contains("exports tokenwell:oauth2/connections@1.0.0;"),
            "{refusal}"
        );
        assert!(
            refusal.contains("tokenwell:oauth2/connections@0.2.0"),
            "{refusal}"
        );
    }

    #[test]
    fn a_component_without_exports_is_refused() {
        let refusal = refusal("(component)");
        assert!(refusal.contains("exports nothing"), "{refusal}");
    }

    #[test]
    fn a_later_patch_of_a_version_is_as_good() {
        assert!(is_compatible("wasi:io/poll@0.2.3", "wasi:io/poll@0.2.0"));
        assert!(is_compatible("a:b/c@1.2.0", "a:b/c@1.0.0"));
        assert!(!is_compatible("wasi:io/poll@0.3.0", "wasi:io/poll@0.2.0"));
        assert!(!is_compatible("wasi:io/error@0.2.0", "wasi:io/poll@0.2.0"));
    }
}
