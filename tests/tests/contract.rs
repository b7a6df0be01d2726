//! The contract in `wit`, and that the components keep it.

use std::fs;

use wit_component::{DecodedWasm, OutputToString, WitPrinter, decode, encode, targets};
use wit_parser::{
    Docs, Function, Interface, PackageId, Resolve, Stability, Type, TypeDef, TypeDefKind,
};

use tokenwell_tests::workspace;

/// The most that a component may weigh, in bytes, where the build driver had
/// everything that makes it small: a standard library built for size, wasm-opt.
/// 250 KB is where it is to get to.
const MOST_BYTES: usize = 376_000;

/// The same for a machine that has the standard library as it is installed, or
/// no Node for wasm-opt.
const MOST_BYTES_BY_FEWER_MEANS: usize = 580_000;

/// A world, and the component that targets it.
struct World {
    name: &'static str,
    file: &'static str,
}

const HEADLESS: World = World {
    name: "connection",
    file: "tokenwell.wasm",
};

const INTERACTIVE: World = World {
    name: "interactive-connection",
    file: "tokenwell-interactive.wasm",
};

/// The one that the Rust host embeds.
const FAST: World = World {
    name: "interactive-connection",
    file: "tokenwell-interactive-fast.wasm",
};

const WORLDS: [World; 3] = [HEADLESS, INTERACTIVE, FAST];

impl World {
    fn component(&self) -> Vec<u8> {
        let path = workspace().join("target/component").join(self.file);
        fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "cannot read {} ({error}): run `cargo xtask build`",
                path.display()
            )
        })
    }

    /// What the component imports, sorted.
    fn imports(&self) -> Vec<String> {
        let component = self.component();
        let Ok(DecodedWasm::Component(resolve, world)) = decode(&component) else {
            panic!("{} is not a component", self.file);
        };
        let imports = resolve.worlds[world].imports.keys();
        let mut names: Vec<String> = imports.map(|key| resolve.name_world_key(key)).collect();
        names.sort();
        names
    }

    /// What the component may import, sorted.
    fn golden_imports(&self) -> Vec<String> {
        let path = workspace().join(format!("tests/golden/imports-{}.txt", self.name));
        let text = fs::read_to_string(&path).expect("the golden list of imports");
        text.lines().map(str::to_owned).collect()
    }
}

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    match resolve.push_dir(workspace().join("wit")) {
        Ok((package, _)) => (resolve, package),
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn each_component_imports_its_golden_list_and_nothing_else() {
    for world in &WORLDS {
        assert_eq!(
            world.imports(),
            world.golden_imports(),
            "the imports of {} are not tests/golden/imports-{}.txt",
            world.file,
            world.name
        );
    }
}

#[test]
fn no_golden_list_has_files_sockets_environment_or_stdio() {
    for world in &WORLDS {
        for import in world.golden_imports() {
            let interface = import.split('@').next().unwrap_or_default();
            let allowed = ["tokenwell:oauth2/", "wasi:clocks/", "wasi:io/"]
                .iter()
                .any(|start| interface.starts_with(start))
                || [
                    "wasi:http/outgoing-handler",
                    "wasi:http/types",
                    "wasi:random/random",
                ]
                .contains(&interface);
            assert!(allowed, "the world {} imports {import}", world.name);
        }
    }
}

#[test]
fn each_component_targets_its_world() {
    let (resolve, package) = contract();
    for world in &WORLDS {
        let id = resolve
            .select_world(&[package], Some(world.name))
            .expect("a world of the contract");
        if let Err(error) = targets(&resolve, id, &world.component()) {
            panic!("{} does not target {}: {error:#}", world.file, world.name);
        }
    }
}

#[test]
fn the_headless_component_does_not_target_the_interactive_world() {
    let (resolve, package) = contract();
    let id = resolve
        .select_world(&[package], Some(INTERACTIVE.name))
        .expect("a world of the contract");
    assert!(targets(&resolve, id, &HEADLESS.component()).is_err());
}

#[test]
fn each_component_for_download_is_within_its_size() {
    let note = workspace().join("target/component/made-small-by");
    let most = match fs::read_to_string(note).as_deref() {
        Ok("fewer means") => MOST_BYTES_BY_FEWER_MEANS,
        _ => MOST_BYTES,
    };
    for world in [HEADLESS, INTERACTIVE] {
        let size = world.component().len();
        assert!(size <= most, "{} has {size} bytes", world.file);
    }
}

#[test]
fn the_contract_is_the_same_after_printing_and_parsing() {
    let (resolve, package) = contract();
    let printed = print(&resolve, package, &dependencies(&resolve, package));
    let mut again = Resolve::default();
    let package_again = again
        .push_source("printed.wit", &printed)
        .expect("what was printed parses");
    assert_eq!(
        print(&again, package_again, &dependencies(&again, package_again)),
        printed
    );
}

#[test]
fn the_contract_is_the_same_after_encoding_and_decoding() {
    let (resolve, package) = contract();
    let binary = encode(&resolve, package).expect("the contract encodes");
    let Ok(DecodedWasm::WitPackage(again, package_again)) = decode(&binary) else {
        panic!("what was encoded is not a WIT package");
    };
    // The comments of the dependencies are not encoded.
    assert_eq!(
        print(&again, package_again, &[]),
        print(&resolve, package, &[])
    );
}

/// The other packages, in the order of their names: in that of parsing, a
/// text of them would tell how they were given and not what they are.
fn dependencies(resolve: &Resolve, package: PackageId) -> Vec<PackageId> {
    let mut others: Vec<PackageId> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != package)
        .collect();
    others.sort_by_key(|id| resolve.packages[*id].name.to_string());
    others
}

/// The package as text, with the nested ones in it.
fn print(resolve: &Resolve, package: PackageId, nested: &[PackageId]) -> String {
    let mut printer: WitPrinter<OutputToString> = WitPrinter::default();
    printer
        .print(resolve, package, nested)
        .expect("the contract prints");
    printer.output.to_string()
}

#[test]
fn every_item_of_the_contract_is_documented() {
    let (resolve, package) = contract();
    let mut bare = Vec::new();
    visit(&resolve, package, &mut |item| {
        let text = item.docs.contents.as_deref().unwrap_or_default();
        if text.trim().is_empty() {
            bare.push(item.path);
        }
    });
    assert!(bare.is_empty(), "without a doc comment: {bare:#?}");
}

#[test]
fn every_item_of_the_contract_says_since_when() {
    let (resolve, package) = contract();
    let mut timeless = Vec::new();
    visit(&resolve, package, &mut |item| {
        if item.stability.is_some_and(Stability::is_unknown) {
            timeless.push(item.path);
        }
    });
    assert!(timeless.is_empty(), "without @since: {timeless:#?}");
}

/// Something in the contract that has a name.
struct Item<'a> {
    path: String,
    docs: &'a Docs,
    /// Absent where the language has no place for `@since`.
    stability: Option<&'a Stability>,
}

/// Walks all that the package itself declares.
fn visit<'a>(resolve: &'a Resolve, package: PackageId, see: &mut impl FnMut(Item<'a>)) {
    let package = &resolve.packages[package];
    assert!(!package.interfaces.is_empty() && !package.worlds.is_empty());
    see(Item {
        path: package.name.to_string(),
        docs: &package.docs,
        stability: None,
    });
    for (name, world) in &package.worlds {
        let world = &resolve.worlds[*world];
        see(Item {
            path: format!("world {name}"),
            docs: &world.docs,
            stability: Some(&world.stability),
        });
    }
    for (name, interface) in &package.interfaces {
        visit_interface(resolve, name, &resolve.interfaces[*interface], see);
    }
}

fn visit_interface<'a>(
    resolve: &'a Resolve,
    name: &str,
    interface: &'a Interface,
    see: &mut impl FnMut(Item<'a>),
) {
    see(Item {
        path: format!("interface {name}"),
        docs: &interface.docs,
        stability: Some(&interface.stability),
    });
    for (type_name, id) in &interface.types {
        let declared = &resolve.types[*id];
        if !is_used_from_elsewhere(resolve, declared) {
            visit_type(&format!("{name}.{type_name}"), declared, see);
        }
    }
    for (function_name, function) in &interface.functions {
        let Function {
            docs, stability, ..
        } = function;
        see(Item {
            path: format!("{name}.{function_name}"),
            docs,
            stability: Some(stability),
        });
    }
}

/// Whether it is a name that `use` brings in: it is documented where it is
/// declared.
fn is_used_from_elsewhere(resolve: &Resolve, declared: &TypeDef) -> bool {
    match declared.kind {
        TypeDefKind::Type(Type::Id(id)) => resolve.types[id].owner != declared.owner,
        _ => false,
    }
}

fn visit_type<'a>(path: &str, declared: &'a TypeDef, see: &mut impl FnMut(Item<'a>)) {
    see(Item {
        path: path.to_owned(),
        docs: &declared.docs,
        stability: Some(&declared.stability),
    });
    let parts: Vec<(&String, &Docs)> = match &declared.kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter();
            fields.map(|field| (&field.name, &field.docs)).collect()
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter();
            cases.map(|case| (&case.name, &case.docs)).collect()
        }
        TypeDefKind::Enum(names) => {
            let cases = names.cases.iter();
            cases.map(|case| (&case.name, &case.docs)).collect()
        }
        TypeDefKind::Flags(flags) => {
            let flags = flags.flags.iter();
            flags.map(|flag| (&flag.name, &flag.docs)).collect()
        }
        _ => Vec::new(),
    };
    for (part, docs) in parts {
        see(Item {
            path: format!("{path}.{part}"),
            docs,
            stability: None,
        });
    }
}
