//! Builds the components: compiles the guest once for each world, and once more
//! for speed, encodes the module as a component, and writes it where the host
//! embeds it from.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use wasm_encoder::reencode::{self, Reencode, ReencodeComponent};
use wasmparser::{
    CustomSectionReader, ImportSectionReader, KnownCustom, Name, Parser, Payload, Validator,
};

use crate::optimizer::Optimizer;
use crate::run::{Finished, Ui, artifacts};
use crate::toolchain::{self, Origin, Plan, TARGET, Toolchain};

/// The package of the guest.
const PACKAGE: &str = "tokenwell-connection";

/// The packages of the components that the tests have besides, and their files.
const FOR_TESTS: [(&str, &str); 2] = [
    ("tokenwell-test-plugins", "plugins.wasm"),
    ("tokenwell-test-hostile", "hostile.wasm"),
];

/// What the components are made of, from the workspace's folder.
const INPUTS: [&str; 5] = [
    "guest",
    "wit",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
];

/// How many rows the table of sizes has for crates.
const CRATES_SHOWN: usize = 10;

/// Whose the functions are whose symbols name no crate: the exported ones,
/// with what is inlined into them, and the few of the C library.
const EXPORTS: &str = "the exported functions";

/// What a component is to be above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Small, since it is downloaded.
    Size,
    /// Fast, since it is embedded in a program that is many times as large.
    Speed,
}

impl Aim {
    /// The profile in Cargo.toml.
    fn profile(self) -> &'static str {
        match self {
            Self::Size => "component",
            Self::Speed => "component-fast",
        }
    }

    /// The variable by which cargo leaves the names in. They tell what takes the
    /// space; the component is stripped of them after.
    fn strip_variable(self) -> &'static str {
        match self {
            Self::Size => "CARGO_PROFILE_COMPONENT_STRIP",
            Self::Speed => "CARGO_PROFILE_COMPONENT_FAST_STRIP",
        }
    }
}

/// What a standard library built from source allows besides: a panic that is a
/// trap and nothing else, so that no text of it is compiled in, and an
/// implementation that favours size.
const BUILD_STD: &str = "-Zbuild-std=std,panic_abort";
const BUILD_STD_FOR_SIZE: &str = "-Zbuild-std-features=optimize_for_size";
const BUILD_STD_RUSTFLAGS: [&str; 4] = [
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    "-Zlocation-detail=none",
    // No text that anybody reads is made by `Debug` in the guest.
    "-Zfmt-debug=none",
];

/// What every component is compiled with: a stack of a quarter of the usual size,
/// which is many times what is needed, so that the addresses of the data behind it
/// take a byte less each.
const RUSTFLAGS: [&str; 1] = ["-Clink-arg=-zstack-size=262144"];

/// And a small one: the small form of SHA-256, of which little is hashed here.
const RUSTFLAGS_FOR_SIZE: [&str; 2] = ["--cfg", "sha2_backend_soft=\"compact\""];

/// A component, and the world that it targets.
struct World {
    name: &'static str,
    file: &'static str,
    features: &'static str,
    aim: Aim,
}

const WORLDS: [World; 3] = [
    World {
        name: "connection",
        file: "tokenwell.wasm",
        features: "",
        aim: Aim::Size,
    },
    World {
        name: "interactive-connection",
        file: "tokenwell-interactive.wasm",
        features: "interactive",
        aim: Aim::Size,
    },
    // The one that the Rust host embeds.
    World {
        name: "interactive-connection",
        file: "tokenwell-interactive-fast.wasm",
        features: "interactive",
        aim: Aim::Speed,
    },
];

/// Builds the components into `target/component`, unless they are there and
/// nothing they are made of has changed.
pub fn build(ui: &Ui, root: &Path) -> Result<()> {
    let folder = root.join("target/component");
    let plan = toolchain::prepare(ui, root)?;
    let recipe = Recipe::new(root, &plan)?;
    let optimizer = Optimizer::prepare(ui, root);
    let inputs = digest_inputs(root, &recipe, &optimizer)?;
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == stamp_text(&inputs, &folder)) {
        ui.say("The components are up to date:");
        return report_sizes(ui, &folder);
    }

    ui.say(&recipe.reason);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut table = None;
    for world in &WORLDS {
        let module = compile(ui, root, &recipe, world)?;
        let module = optimizer.optimize(ui, module, world.aim, world.file)?;
        let component = encode(&module)
            .with_context(|| format!("cannot make a component of {}", world.file))?;
        write_if_changed(&folder.join(world.file), &component)?;
        if world.aim == Aim::Size {
            table = Some((world.file, space_table(&module, component.len())?));
        }
    }
    // For the test of their size: a machine that lacks the one or the other
    // builds the same at greater length.
    let all_means = recipe.build_std && optimizer.is_there();
    let means = if all_means {
        "all means"
    } else {
        "fewer means"
    };
    write_if_changed(&folder.join("made-small-by"), means.as_bytes())?;
    ui.say("Built:");
    report_sizes(ui, &folder)?;
    if let Some((file, table)) = table {
        ui.say(&format!("What takes the space in {file}:"));
        ui.say(&table);
    }
    fs::write(&stamp, stamp_text(&inputs, &folder))
        .with_context(|| format!("cannot write {}", stamp.display()))
}

/// How the guest is compiled on this machine.
struct Recipe {
    reason: String,
    toolchain: Toolchain,
    arguments: Vec<String>,
    rustflags: Vec<String>,
    build_std: bool,
}

impl Recipe {
    fn new(root: &Path, plan: &Plan) -> Result<Self> {
        let (toolchain, build_std) = match plan {
            Plan::Plain(toolchain) => (toolchain, false),
            Plan::BuildStd(toolchain) => (toolchain, true),
            Plan::InstallPackages | Plan::Stop => {
                return Err(anyhow!("no toolchain compiles for {TARGET}"));
            }
        };
        let owner = match toolchain.origin {
            Origin::Pinned => "the pinned Rust",
            Origin::System => "the system's Rust",
        };
        let library = if build_std {
            "the standard library from its source, as the target is not installed"
        } else {
            "the installed target"
        };
        let mut arguments: Vec<String> = ["build", "--lib", "--target", TARGET]
            .map(String::from)
            .into();
        // A folder of their own, so that no other cargo waits for this one
        // and two compilers do not undo each other's work.
        arguments.push("--target-dir".into());
        arguments.push(path_text(&root.join("target/guest"))?);
        arguments.push("--message-format=json-render-diagnostics".into());
        // The folders of this machine are nobody's business and would make
        // every machine's component another.
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        let mut rustflags = vec![format!("--remap-path-prefix={}=", path_text(root)?)];
        if let Some(home) = cargo_home {
            rustflags.push(format!("--remap-path-prefix={}=cargo", path_text(&home)?));
        }
        rustflags.extend(RUSTFLAGS.map(String::from));
        if build_std {
            arguments.push(BUILD_STD.into());
            rustflags.extend(BUILD_STD_RUSTFLAGS.map(String::from));
        }
        Ok(Self {
            reason: format!(
                "The components are compiled by {owner}, {}, with {library}.",
                toolchain.version
            ),
            toolchain: toolchain.clone(),
            arguments,
            rustflags,
            build_std,
        })
    }

    fn command(&self, root: &Path, package: &str, aim: Aim) -> Command {
        let mut command = Command::new(&self.toolchain.cargo);
        command.args(&self.arguments);
        if self.toolchain.origin == Origin::System {
            toolchain::leave_rustup(&mut command);
            command.env("RUSTC", &self.toolchain.rustc);
        }
        let mut rustflags = self.rustflags.clone();
        if aim == Aim::Size {
            rustflags.extend(RUSTFLAGS_FOR_SIZE.map(String::from));
            if self.build_std {
                command.arg(BUILD_STD_FOR_SIZE);
            }
        }
        command
            .current_dir(root)
            .args(["--profile", aim.profile(), "--package", package])
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
            .env(aim.strip_variable(), "false")
            .env("CARGO_TERM_COLOR", "never");
        if self.build_std {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Compiles the guest for one world; gives the core module.
fn compile(ui: &Ui, root: &Path, recipe: &Recipe, world: &World) -> Result<Vec<u8>> {
    // Both worlds' modules have one name, and cargo could take the one for
    // the other where it thinks that nothing has changed.
    let profile = world.aim.profile();
    let output = root.join("target/guest").join(TARGET).join(profile);
    let module_name = module_name(PACKAGE);
    for stale in [
        output.join(&module_name),
        output.join("deps").join(&module_name),
    ] {
        let _ = fs::remove_file(stale);
    }
    let mut command = recipe.command(root, PACKAGE, world.aim);
    if !world.features.is_empty() {
        command.args(["--features", world.features]);
    }
    let what = format!("Compiling {} (world {})", world.file, world.name);
    read_module(&ui.run(&what, command)?, PACKAGE)
}

/// Builds the components that only the tests have, and that need not be small,
/// into `target/component`.
pub fn build_for_tests(ui: &Ui, root: &Path) -> Result<()> {
    let recipe = Recipe::new(root, &toolchain::prepare(ui, root)?)?;
    for (package, file) in FOR_TESTS {
        let command = recipe.command(root, package, Aim::Size);
        let built = ui.run(&format!("Compiling {file} for the tests"), command)?;
        let component = encode(&read_module(&built, package)?)
            .with_context(|| format!("cannot make a component of {package}"))?;
        write_if_changed(&root.join("target/component").join(file), &component)?;
    }
    Ok(())
}

fn module_name(package: &str) -> String {
    format!("{}.wasm", package.replace('-', "_"))
}

/// Reads the core module of a package, where cargo says that it is.
fn read_module(built: &Finished, package: &str) -> Result<Vec<u8>> {
    let module_name = module_name(package);
    let module = artifacts(built)
        .flat_map(|artifact| artifact.filenames)
        .find(|path| path.file_name().is_some_and(|name| *name == *module_name))
        .ok_or_else(|| anyhow!("cargo built no {module_name}"))?;
    fs::read(&module).with_context(|| format!("cannot read {}", module.display()))
}

/// Makes a component of a core module: small, and valid.
fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let component = wit_component::ComponentEncoder::default()
        .module(module)?
        .encode()?;
    let component = slim(&component)?;
    Validator::new()
        .validate_all(&component)
        .context("the component is not valid")?;
    Ok(component)
}

/// Writes a component anew, without what nobody reads: the custom sections
/// (names, producers) of it and of everything inside it, and the long names by
/// which the modules inside know one another's functions.
fn slim(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut component = wasm_encoder::Component::new();
    Slimmer::default().parse_component(&mut component, Parser::new(0), wasm)?;
    Ok(component.finish())
}

/// Gives every core name inside a component a short one in its place, the same
/// for the same. What the component imports and exports keeps its name.
#[derive(Default)]
struct Slimmer {
    names: BTreeMap<String, String>,
}

impl Slimmer {
    fn short(&mut self, name: &str) -> String {
        let next = self.names.len();
        let short = || {
            let mut digits = String::new();
            let mut rest = next;
            loop {
                digits.extend(char::from_digit((rest % 36) as u32, 36));
                rest /= 36;
                if rest == 0 {
                    return digits;
                }
            }
        };
        self.names
            .entry(name.to_owned())
            .or_insert_with(short)
            .clone()
    }
}

impl Reencode for Slimmer {
    type Error = Infallible;

    fn parse_custom_section(
        &mut self,
        _: &mut wasm_encoder::Module,
        _: CustomSectionReader<'_>,
    ) -> Reencoded {
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut wasm_encoder::ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Reencoded {
        for import in section.into_imports() {
            let import = import?;
            let (module, field) = (self.short(import.module), self.short(import.name));
            imports.import(&module, &field, self.entity_type(import.ty)?);
        }
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut wasm_encoder::ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Reencoded {
        let name = self.short(export.name);
        let export = wasmparser::Export {
            name: &name,
            ..export
        };
        reencode::utils::parse_export(self, exports, export)
    }
}

impl ReencodeComponent for Slimmer {
    fn parse_component_custom_section(
        &mut self,
        _: &mut wasm_encoder::Component,
        _: CustomSectionReader<'_>,
    ) -> Reencoded {
        Ok(())
    }

    fn parse_component_alias_section(
        &mut self,
        aliases: &mut wasm_encoder::ComponentAliasSection,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Reencoded {
        for alias in section {
            let mut alias = self.component_alias(alias?)?;
            let short;
            if let wasm_encoder::Alias::CoreInstanceExport { name, .. } = &mut alias {
                short = self.short(name);
                *name = &short;
            }
            aliases.alias(alias);
        }
        Ok(())
    }

    fn parse_instance(
        &mut self,
        instances: &mut wasm_encoder::InstanceSection,
        instance: wasmparser::Instance<'_>,
    ) -> Reencoded {
        match instance {
            wasmparser::Instance::Instantiate { module_index, args } => {
                let args: Vec<_> = args
                    .iter()
                    .map(|arg| {
                        let instance = self.instance_index(arg.index);
                        let instance = wasm_encoder::ModuleArg::Instance(instance);
                        (self.short(arg.name), instance)
                    })
                    .collect();
                let args = args
                    .iter()
                    .map(|(name, instance)| (name.as_str(), *instance));
                instances.instantiate(self.module_index(module_index), args);
            }
            wasmparser::Instance::FromExports(exports) => {
                let mut renamed = Vec::new();
                for export in exports {
                    let kind = self.export_kind(export.kind)?;
                    let index = self.external_index(export.kind, export.index)?;
                    renamed.push((self.short(export.name), kind, index));
                }
                let exports = renamed.iter();
                instances.export_items(
                    exports.map(|(name, kind, index)| (name.as_str(), *kind, *index)),
                );
            }
        }
        Ok(())
    }
}

type Reencoded = std::result::Result<(), reencode::Error<Infallible>>;

/// Leaves a file alone that has this content already: what is built from it
/// is then not built again.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The digest of everything that decides what the components are.
fn digest_inputs(root: &Path, recipe: &Recipe, optimizer: &Optimizer) -> Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect_files(&root.join(input), &mut files)?;
    }
    files.sort();
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length, so that no two lists of parts are one text.
        digest.update((part.len()).to_le_bytes());
        digest.update(part);
    };
    add(include_bytes!("component.rs"));
    add(include_bytes!("optimizer.rs"));
    add(optimizer.identity().as_bytes());
    add(recipe.toolchain.version.as_bytes());
    for text in recipe.arguments.iter().chain(&recipe.rustflags) {
        add(text.as_bytes());
    }
    for file in files {
        add(path_text(file.strip_prefix(root).unwrap_or(&file))?.as_bytes());
        add(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hex(&digest.finalize()))
}

/// The files at and below a path, except what tools leave there.
fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(context)?.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in path.read_dir().with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name();
        if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
            collect_files(&entry.path(), files)?;
        }
    }
    Ok(())
}

/// What the stamp says when the components in the folder are made of these
/// inputs and nobody has touched them since.
fn stamp_text(inputs: &str, folder: &Path) -> String {
    let mut text = format!("inputs {inputs}\n");
    for world in &WORLDS {
        let content = fs::read(folder.join(world.file)).unwrap_or_default();
        let _ = writeln!(text, "{} {}", world.file, hex(&Sha256::digest(content)));
    }
    text
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str();
    text.map(str::to_owned)
        .ok_or_else(|| anyhow!("the path {} is not Unicode", path.display()))
}

fn report_sizes(ui: &Ui, folder: &Path) -> Result<()> {
    for world in &WORLDS {
        let path = folder.join(world.file);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&content)?;
        ui.say(&format!(
            "  {:<48} {:>6.1} KB, {:>6.1} KB with gzip",
            format!("target/component/{}", world.file),
            kilobytes(content.len()),
            kilobytes(gzip.finish()?.len()),
        ));
    }
    Ok(())
}

fn kilobytes(bytes: usize) -> f64 {
    bytes as f64 / 1000.0
}

/// What takes the space of a component of `total` bytes, made of this module
/// with its names.
fn space_table(module: &[u8], total: usize) -> Result<String> {
    let Spaces { crates, data } = spaces(module)?;
    let mut rows: Vec<(String, usize)> = crates
        .into_iter()
        .map(|(name, size)| (format!("code of {name}"), size))
        .collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let others = rows.split_off(rows.len().min(CRATES_SHOWN));
    if !others.is_empty() {
        let size = others.iter().map(|(_, size)| size).sum();
        rows.push((format!("code of {} others", others.len()), size));
    }
    rows.push(("data (texts, tables)".into(), data));
    let known: usize = rows.iter().map(|(_, size)| size).sum();
    rows.push((
        "types, imports, exports, glue".into(),
        total.saturating_sub(known),
    ));
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, size)| {
            let share = kilobytes(*size) / kilobytes(total) * 100.0;
            format!("  {name:<44} {:>6.1} KB {share:>5.1} %", kilobytes(*size))
        })
        .collect();
    Ok(lines.join("\n"))
}

/// The bytes of code by crate, and those of data.
#[derive(Debug, Default, PartialEq)]
struct Spaces {
    crates: BTreeMap<String, usize>,
    data: usize,
}

fn spaces(module: &[u8]) -> Result<Spaces> {
    let mut names = BTreeMap::new();
    let mut bodies = Vec::new();
    let mut data = 0;
    let mut imported = 0;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if matches!(import?.ty, wasmparser::TypeRef::Func(_)) {
                        imported += 1;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(indices(&body.range())?.len()),
            Payload::DataSection(section) => data += indices(&section.range())?.len(),
            Payload::CustomSection(section) => {
                let KnownCustom::Name(subsections) = section.as_known() else {
                    continue;
                };
                for subsection in subsections {
                    let Name::Function(map) = subsection? else {
                        continue;
                    };
                    for naming in map {
                        let naming = naming?;
                        names.insert(naming.index, owner(naming.name));
                    }
                }
            }
            _ => {}
        }
    }
    let mut crates = BTreeMap::new();
    for (index, size) in (imported..).zip(bodies) {
        let name = names.get(&index).cloned().unwrap_or_default();
        *crates.entry(name).or_default() += size;
    }
    Ok(Spaces { crates, data })
}

/// Where in a file that is in memory a range of it is.
fn indices(range: &Range<u64>) -> Result<Range<usize>> {
    Ok(usize::try_from(range.start)?..usize::try_from(range.end)?)
}

/// The crate that a function's symbol belongs to: the first in its path.
fn owner(symbol: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    let before = name.split("::").next().unwrap_or_default();
    let start = before
        .rfind(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(0, |at| at + 1);
    match before.get(start..) {
        Some(name_of_crate) if before.len() < name.len() && !name_of_crate.is_empty() => {
            name_of_crate.to_owned()
        }
        _ => EXPORTS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one imported function, one of its own with a name, and
    /// some data.
    fn module() -> Vec<u8> {
        let text = r#"(module
            (import "a" "b" (func))
            (memory 1)
            (data (i32.const 0) "hello")
            (func $_ZN10serde_json5value5parse17h0123456789abcdefE (nop) (nop)))"#;
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn code_is_counted_by_crate_and_data_apart() {
        let spaces = spaces(&module()).unwrap();
        assert_eq!(spaces.crates, BTreeMap::from([("serde_json".into(), 4)]));
        assert!(spaces.data >= 5, "{spaces:?}");
    }

    #[test]
    fn the_rows_of_the_table_add_up_to_the_component() {
        let module = module();
        let table = space_table(&module, 100_000).unwrap();
        let sum: f64 = table
            .lines()
            .filter_map(|line| line.split_whitespace().rev().nth(3)?.parse::<f64>().ok())
            .sum();
        assert!((sum - 100.0).abs() < 0.3, "{table}");
    }

    #[test]
    fn a_symbol_belongs_to_the_first_crate_of_its_path() {
        for (symbol, name) in [
            (
                "_ZN10serde_json5value5parse17h0123456789abcdefE",
                "serde_json",
            ),
            (
                "_ZN55_$LT$core..fmt..Error$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE",
                "core",
            ),
            (
                "<&mut tokenwell_core::Flow as core::future::Future>::poll",
                "tokenwell_core",
            ),
            ("<u8 as core::fmt::Display>::fmt", "core"),
        ] {
            assert_eq!(owner(symbol), name);
        }
        assert_eq!(owner("memcpy"), EXPORTS);
    }

    #[test]
    fn stripping_takes_custom_sections_out_at_every_depth() {
        let text = r#"(component
            (@custom "producers" "outer")
            (core module (func $named) (@custom "other" "inner"))
            (component (core module (func $deep))))"#;
        let component = wat::parse_str(text).unwrap();
        let stripped = slim(&component).unwrap();
        Validator::new().validate_all(&stripped).unwrap();
        let mut modules = 0;
        for payload in Parser::new(0).parse_all(&stripped) {
            match payload.unwrap() {
                Payload::CustomSection(section) => panic!("{} is left", section.name()),
                Payload::ModuleSection { .. } => modules += 1,
                _ => {}
            }
        }
        assert_eq!(modules, 2);
    }

    #[test]
    fn a_file_that_has_the_content_is_not_written_again() {
        let path = std::env::temp_dir().join(format!("xtask-write-{}", std::process::id()));
        write_if_changed(&path, b"one").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let set = |time| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        };
        let changed = || fs::metadata(&path).unwrap().modified().unwrap();
        set(old);
        write_if_changed(&path, b"one").unwrap();
        assert_eq!(changed(), old);
        write_if_changed(&path, b"two").unwrap();
        assert_ne!(changed(), old);
        fs::remove_file(&path).unwrap();
    }
}
