//! The layers of a config: its file, what a profile changes in it, what the
//! environment does, what `--set` does. Later ones go before earlier ones.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokenwell::Problem;

use super::document::{Override, merge_patch};
use super::failure::Failure;

/// What the variables that change a config begin with.
const PREFIX: &str = "TOKENWELL_SET_";

/// Where a layer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `NAME.json`.
    Config(PathBuf),
    /// `NAME.PROFILE.json`.
    Profile(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// `--set`.
    Set,
}

impl Source {
    /// Its kind, as JSON has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Profile(_) => "profile",
            Self::Environment(_) => "environment",
            Self::Set => "set",
        }
    }

    /// Which one it is: a file, a variable.
    pub fn place(&self) -> Value {
        match self {
            Self::Config(path) | Self::Profile(path) => path.display().to_string().into(),
            Self::Environment(variable) => variable.clone().into(),
            Self::Set => Value::Null,
        }
    }
}

/// For a reader, who knows the directory.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(path) | Self::Profile(path) => {
                let file = path.file_name().unwrap_or(path.as_os_str());
                write!(f, "{}", file.display())
            }
            Self::Environment(variable) => f.write_str(variable),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// One variable `TOKENWELL_SET_…`, as the patch that it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    name: String,
    patch: Override,
}

/// What the environment changes in configs: the rest of each variable's name is
/// the field, in capitals, with `__` where one is inside another. In the order
/// of their names, so that a field inside comes after the one around it.
///
/// # Errors
/// Usage, where a variable names no field, or has no value: that it should fall
/// through to the config's own, which may be another environment's, is not what
/// its author meant.
pub fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Variable>, Failure> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        let Some(field) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let path: Vec<String> = field.split("__").map(str::to_ascii_lowercase).collect();
        if path.iter().any(String::is_empty) {
            return Err(
                Failure::usage(format!("the environment variable {name} names no field")).mend(
                    format!(
                        "Write {PREFIX}CLIENT_ID for client_id, {PREFIX}RENEWAL__EARLY_SECONDS for renewal.early_seconds."
                    ),
                ),
            );
        }
        let Ok(value) = value.into_string() else {
            return Err(
                Failure::usage(format!("the environment variable {name} is not UTF-8"))
                    .mend("Set it anew, or unset it."),
            );
        };
        if value.is_empty() {
            return Err(
                Failure::usage(format!("the environment variable {name} is empty")).mend(
                    "Unset it to leave the field as the config has it; `null` removes the field.",
                ),
            );
        }
        let patch = Override::new(&path.join("."), &value);
        found.push(Variable { name, patch });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What a config is made of, the first layer lowest.
#[derive(Clone, Debug)]
pub struct Layers(Vec<(Source, Value)>);

impl Layers {
    /// A config alone.
    pub fn new(path: PathBuf, document: Value) -> Self {
        Self(vec![(Source::Config(path), document)])
    }

    /// Lays a profile over it.
    pub fn profile(&mut self, path: PathBuf, patch: Value) {
        self.0.push((Source::Profile(path), patch));
    }

    /// Lays what the environment changes over it.
    pub fn environment(&mut self, variables: &[Variable]) {
        for variable in variables {
            let source = Source::Environment(variable.name.clone());
            self.0.push((source, variable.patch.patch().clone()));
        }
    }

    /// Lays what `--set` changes over it.
    pub fn set(&mut self, overrides: &[Override]) {
        for set in overrides {
            self.0.push((Source::Set, set.patch().clone()));
        }
    }

    /// The config as a whole.
    pub fn document(&self) -> Value {
        let mut document = json!({});
        for (_, patch) in &self.0 {
            merge_patch(&mut document, patch.clone());
        }
        document
    }

    /// The layer that had the last word on a field, to remove it included;
    /// `None` where no layer speaks of it.
    pub fn source_of(&self, path: &[&str]) -> Option<&Source> {
        let mut layers = self.0.iter().rev();
        layers
            .find(|(_, patch)| speaks_of(patch, path))
            .map(|(source, _)| source)
    }

    /// Says of each problem where the field was set, unless it is the config's
    /// own file.
    pub fn attribute(&self, problems: &mut [Problem]) {
        for problem in problems {
            let path: Vec<&str> = problem.field.split('.').collect();
            let source = self.source_of(&path);
            if let Some(source) = source.filter(|source| !matches!(source, Source::Config(_))) {
                problem.message.push_str(&format!(" (set by {source})"));
            }
        }
    }
}

/// Whether a patch sets or removes what is at a path.
fn speaks_of(patch: &Value, path: &[&str]) -> bool {
    let mut value = patch;
    for name in path {
        match value {
            Value::Object(members) => match members.get(*name) {
                Some(inner) => value = inner,
                None => return false,
            },
            // It has put something else in the place of all that.
            _ => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Kind;
    use tokenwell::Severity;

    fn from(variables: &[(&str, &str)]) -> Result<Vec<Variable>, Failure> {
        environment(
            variables
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value))),
        )
    }

    /// A config with a profile, a variable and `--set` over it.
    fn layers() -> Layers {
        let mut layers = Layers::new(
            "/c/shop.json".into(),
            json!({"client_id": "file", "scope": "a", "renewal": {"max_attempts": 1, "early_seconds": 1}}),
        );
        layers.profile(
            "/c/shop.dev.json".into(),
            json!({"client_id": "profile", "scope": null}),
        );
        let variables = from(&[
            ("TOKENWELL_SET_CLIENT_ID", "environment"),
            ("TOKENWELL_SET_RENEWAL__EARLY_SECONDS", "2"),
        ]);
        layers.environment(&variables.unwrap());
        layers.set(&["client_id=set".parse().unwrap()]);
        layers
    }

    #[test]
    fn set_goes_before_the_environment_that_before_the_profile_that_before_the_file() {
        assert_eq!(
            layers().document(),
            json!({"client_id": "set", "renewal": {"max_attempts": 1, "early_seconds": 2}})
        );
    }

    #[test]
    fn the_source_of_a_field_is_the_layer_that_had_the_last_word() {
        let layers = layers();
        let source = |path: &[&str]| layers.source_of(path).map(ToString::to_string);
        for (path, expected) in [
            (&["client_id"][..], Some("--set")),
            (&["scope"], Some("shop.dev.json")),
            (
                &["renewal", "early_seconds"],
                Some("TOKENWELL_SET_RENEWAL__EARLY_SECONDS"),
            ),
            (&["renewal", "max_attempts"], Some("shop.json")),
            (&["renewal", "max_retry_seconds"], None),
            (&["issuer"], None),
        ] {
            assert_eq!(source(path).as_deref(), expected, "{path:?}");
        }
    }

    #[test]
    fn variables_name_fields_in_capitals_and_inner_ones_after_two_underscores() {
        let mut layers = Layers::new("/c/shop.json".into(), json!({}));
        let variables = from(&[
            ("TOKENWELL_SET_RENEWAL__EARLY_SECONDS", "60"),
            ("TOKENWELL_SET_RENEWAL", "{\"max_attempts\": 3}"),
            ("TOKENWELL_SET_CLIENT_ID", "4711"),
            ("TOKENWELL_SET_PKCE", "false"),
            ("TOKENWELL_SETTING", "x"),
            ("PATH", "/bin"),
        ]);
        layers.environment(&variables.unwrap());
        assert_eq!(
            layers.document(),
            json!({"client_id": "4711", "pkce": false, "renewal": {"max_attempts": 3, "early_seconds": 60}})
        );
    }

    #[test]
    fn a_variable_that_names_no_field_or_is_empty_is_refused_by_its_name() {
        for (name, value) in [
            ("TOKENWELL_SET_", "x"),
            ("TOKENWELL_SET_A____B", "x"),
            ("TOKENWELL_SET___A", "x"),
            ("TOKENWELL_SET_CLIENT_ID", ""),
        ] {
            let failure = from(&[(name, value)]).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(failure.message.contains(name), "{}", failure.message);
        }
    }

    #[test]
    fn a_problem_says_which_variable_caused_it() {
        let problem = |field: &str| Problem {
            field: field.to_owned(),
            severity: Severity::Error,
            message: "is wrong".to_owned(),
            mend: String::new(),
        };
        let mut problems = [
            problem("renewal.early_seconds"),
            problem("renewal.max_attempts"),
            problem("client_id"),
            problem(""),
        ];
        layers().attribute(&mut problems);
        assert_eq!(
            problems.map(|problem| problem.message),
            [
                "is wrong (set by TOKENWELL_SET_RENEWAL__EARLY_SECONDS)",
                "is wrong",
                "is wrong (set by --set)",
                "is wrong",
            ]
        );
    }
}
