//! Configs as documents: where they are, how profile and `--set` change them,
//! and how they are shown without their secrets.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value};
use tokenwell::Grant;
use tokenwell_core::config::SECRET_FIELDS;

use super::failure::Failure;
use super::layers::Layers;

/// What stands where a secret was.
const REDACTED: &str = "***";

/// The name of a connection as the command line takes it: letters, digits, `-`
/// and `_`. The dot is left for the profile, so that `shop.dev` is never both
/// a connection and the profile of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionName(String);

/// The name of a profile, with the same letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileName(String);

fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl FromStr for ConnectionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_name(text, 48) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "a name has 1 to 48 letters, digits, `-` or `_`, and begins with a letter or digit"
                    .into(),
            )
        }
    }
}

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_name(text, 15) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a profile has 1 to 15 letters, digits, `-` or `_`, and begins with a letter or digit".into())
        }
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One `--set FIELD=VALUE`, or what the environment sets, as the patch that it
/// is.
#[derive(Clone, Debug, PartialEq)]
pub struct Override(Value);

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, value) = text.split_once('=').ok_or("write FIELD=VALUE")?;
        if field.is_empty() || field.split('.').any(str::is_empty) {
            return Err("write FIELD=VALUE, with a dot between the names of nested fields".into());
        }
        Ok(Self::new(field, value))
    }
}

impl Override {
    /// Sets a field, with a dot between the names of nested ones.
    pub fn new(field: &str, value: &str) -> Self {
        let names = field.rsplit('.');
        Self(names.fold(override_value(field, value), |inner, name| {
            Value::Object(Map::from_iter([(name.to_owned(), inner)]))
        }))
    }

    /// What it changes.
    pub fn patch(&self) -> &Value {
        &self.0
    }
}

/// Reads the value of an override: JSON where it is JSON, else a string. A
/// number stays text but in the fields that count something: a client
/// identifier or a provider's parameter may well consist of digits.
fn override_value(field: &str, text: &str) -> Value {
    let counts = matches!(field, "timeout" | "max_age") || field.starts_with("renewal.");
    match serde_json::from_str(text) {
        Ok(Value::Number(_)) if !counts => Value::String(text.to_owned()),
        Ok(value) => value,
        Err(_) => Value::String(text.to_owned()),
    }
}

/// Applies overrides, later ones last.
pub fn apply(document: &mut Value, overrides: &[Override]) {
    for Override(patch) in overrides {
        merge_patch(document, patch.clone());
    }
}

/// JSON Merge Patch (RFC 7396 section 2).
pub fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(&name);
        } else {
            merge_patch(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Replaces every secret in a config by `***`. References stay: they are no
/// secrets. What is sent "as it is" to the token endpoint may be one, and so
/// is hidden too.
pub fn redact(document: &mut Value) {
    let Value::Object(members) = document else {
        return;
    };
    for (name, value) in members {
        let name = name.as_str();
        match value {
            Value::Object(sent) if SENT_AS_THEY_ARE.contains(&name) => {
                for value in sent.values_mut() {
                    *value = Value::String(REDACTED.into());
                }
            }
            value if SENT_AS_THEY_ARE.contains(&name) => *value = Value::String(REDACTED.into()),
            value
                if (SECRET_FIELDS.contains(&name) || KEYS.contains(&name))
                    && value.get("ref").is_none() =>
            {
                *value = Value::String(REDACTED.into());
            }
            _ => {}
        }
    }
}

/// Fields that refer to a key, and should have no more than a reference.
const KEYS: [&str; 2] = ["signing_key", "client_certificate_key"];

/// Fields whose values go to the token endpoint as they are.
const SENT_AS_THEY_ARE: [&str; 2] = ["token_parameters", "token_headers"];

/// Reads a JSON document that should be an object.
///
/// # Errors
/// Not configured, with the place of the mistake.
pub fn parse(text: &str, origin: &str) -> Result<Value, Failure> {
    // Some editors begin a file with a byte order mark (RFC 8259 section 8.1).
    match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(document @ Value::Object(_)) => Ok(document),
        Ok(_) => Err(
            Failure::not_configured(format!("{origin} is JSON but not an object"))
                .mend("Write one JSON object: {\"client_id\": \"…\", …}."),
        ),
        Err(error) => Err(
            Failure::not_configured(format!("{origin} is not JSON: {error}")).mend(
                "Mend the file at that line, or write it anew with `tokenwell create --force`.",
            ),
        ),
    }
}

/// The directory that holds the connections.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    /// The global arguments that lead to it; each ends in a space.
    arguments: String,
}

impl Directory {
    /// The given directory, or the platform's own for configs.
    ///
    /// # Errors
    /// A usage failure where the platform tells no home directory.
    pub fn new(given: Option<PathBuf>) -> Result<Self, Failure> {
        use etcetera::BaseStrategy;
        if let Some(path) = given {
            return Ok(Self::at(path));
        }
        let strategy = etcetera::choose_base_strategy().map_err(|_| {
            Failure::usage("there is no home directory to keep connections in")
                .mend("Name a directory with --dir DIR.")
        })?;
        Ok(Self::at(strategy.config_dir().join("tokenwell")))
    }

    fn at(path: PathBuf) -> Self {
        Self {
            path,
            arguments: String::new(),
        }
    }

    /// The same, that these global arguments lead to.
    pub fn reached_by(self, arguments: &str) -> Self {
        Self {
            arguments: arguments.to_owned(),
            ..self
        }
    }

    /// What to type for a command on what is in it.
    pub fn command(&self, command: &str) -> String {
        format!("tokenwell {}{command}", self.arguments)
    }

    /// Where to look for what there is.
    pub fn shows_all(&self) -> String {
        format!("`{}` shows those there are.", self.command("list"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a config, or of what a profile changes in it.
    pub fn file(&self, name: &ConnectionName, profile: Option<&ProfileName>) -> PathBuf {
        self.path.join(format!("{}.json", full_name(name, profile)))
    }

    /// The config of a connection, and the profile over it.
    ///
    /// # Errors
    /// Not configured where there is none or it is not JSON; storage where it
    /// cannot be read.
    pub fn layers(
        &self,
        name: &ConnectionName,
        profile: Option<&ProfileName>,
    ) -> Result<Layers, Failure> {
        let path = self.file(name, None);
        let document = self.read(&path)?.ok_or_else(|| {
            Failure::not_configured(format!(
                "there is no connection {name} in {}",
                self.path.display()
            ))
            .mend(format!(
                "Create it with `{}`; {}",
                self.command(&format!("create {name}")),
                self.shows_all()
            ))
        })?;
        let mut layers = Layers::new(path, document);
        if let Some(profile) = profile {
            let path = self.file(name, Some(profile));
            // A mistyped profile must not fall through to the base config,
            // which may well be production.
            let overlay = self.read(&path)?.ok_or_else(|| {
                Failure::not_configured(format!("connection {name} has no profile {profile}")).mend(
                    format!(
                        "Write what it changes into {}, as a JSON object; `{{}}` changes nothing.",
                        path.display()
                    ),
                )
            })?;
            layers.profile(path, overlay);
        }
        Ok(layers)
    }

    /// The config of a connection, the profile laid over it.
    ///
    /// # Errors
    /// As [`Directory::layers`].
    pub fn load(
        &self,
        name: &ConnectionName,
        profile: Option<&ProfileName>,
    ) -> Result<Value, Failure> {
        Ok(self.layers(name, profile)?.document())
    }

    fn read(&self, path: &Path) -> Result<Option<Value>, Failure> {
        match fs::read_to_string(path) {
            Ok(text) => parse(&text, &path.display().to_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file("cannot read", path, &error)),
        }
    }

    /// The connections there are, in the order of their names; with a profile,
    /// those that have it.
    ///
    /// # Errors
    /// Storage where the directory cannot be read.
    pub fn names(&self, profile: Option<&ProfileName>) -> Result<Vec<ConnectionName>, Failure> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::file("cannot read", &self.path, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::file("cannot read", &self.path, &error))?;
            let Some(name) = entry
                .file_name()
                .to_str()
                .and_then(|file| file.strip_suffix(".json"))
                .and_then(|stem| stem.parse::<ConnectionName>().ok())
            else {
                continue;
            };
            if profile.is_none_or(|profile| self.file(&name, Some(profile)).exists()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The profiles of a connection, in the order of their names.
    ///
    /// # Errors
    /// Storage where the directory cannot be read.
    pub fn profiles(&self, name: &ConnectionName) -> Result<Vec<ProfileName>, Failure> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::file("cannot read", &self.path, &error)),
        };
        let prefix = format!("{name}.");
        let mut profiles = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::file("cannot read", &self.path, &error))?;
            let file = entry.file_name();
            let profile = file
                .to_str()
                .and_then(|file| file.strip_prefix(&prefix))
                .and_then(|rest| rest.strip_suffix(".json"))
                .and_then(|profile| profile.parse::<ProfileName>().ok());
            profiles.extend(profile);
        }
        profiles.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(profiles)
    }

    /// Writes a document, whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// Usage where the file is there and may not be replaced; storage where it
    /// cannot be written.
    pub fn write(&self, path: &Path, document: &Value, replace: bool) -> Result<(), Failure> {
        let failed = |error: &io::Error| Failure::file("cannot write", path, error);
        create_private(&self.path)
            .map_err(|error| Failure::file("cannot create", &self.path, &error))?;
        // Created 0600 by the crate, which is what a config with a secret needs.
        let mut file = tempfile::Builder::new()
            .prefix(".create-")
            .tempfile_in(&self.path)
            .map_err(|error| failed(&error))?;
        writeln!(file, "{document:#}").map_err(|error| failed(&error))?;
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        let persisted = if replace {
            file.persist(path)
        } else {
            file.persist_noclobber(path)
        };
        persisted.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => already_there(path),
            _ => failed(&error.error),
        })?;
        #[cfg(unix)]
        fs::File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Removes a file, and tells whether it was there.
    ///
    /// # Errors
    /// Storage where it is there and cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<bool, Failure> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::file("cannot remove", path, &error)),
        }
    }
}

/// The failure to create what is there already.
pub fn already_there(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already", path.display()))
        .mend("Choose another name, or replace it with --force.")
}

/// The name under which a connection is opened: a profile's tokens are kept
/// apart from those of the plain config.
pub fn full_name(name: &ConnectionName, profile: Option<&ProfileName>) -> String {
    match profile {
        Some(profile) => format!("{name}.{profile}"),
        None => name.to_string(),
    }
}

/// The connection that a command is about, for what is said of it.
#[derive(Clone, Debug)]
pub struct Subject {
    full_name: String,
    name: ConnectionName,
    arguments: String,
    grant: Option<Grant>,
}

impl Subject {
    /// A connection, reached with these global arguments; each ends in a space.
    pub fn new(name: &ConnectionName, profile: Option<&ProfileName>, arguments: &str) -> Self {
        let mut arguments = arguments.to_owned();
        if let Some(profile) = profile {
            arguments.push_str(&format!("--profile {profile} "));
        }
        Self {
            full_name: full_name(name, profile),
            name: name.clone(),
            arguments,
            grant: None,
        }
    }

    /// The same, whose grant is known.
    pub fn with_grant(self, grant: &Grant) -> Self {
        Self {
            grant: Some(grant.clone()),
            ..self
        }
    }

    /// What to do where it needs a token that cannot be renewed.
    pub fn anew(&self) -> String {
        match &self.grant {
            None | Some(Grant::AuthorizationCode | Grant::DeviceCode) => {
                format!("Run `{}`.", self.command("authorize"))
            }
            Some(Grant::RefreshToken(_)) => format!(
                "Put a new `refresh_token` into the config, then run `{}`.",
                self.command("token")
            ),
            Some(Grant::Password(_)) => format!(
                "Look at `username` and `password`, then run `{}`.",
                self.command("refresh")
            ),
            Some(_) => format!(
                "Run `{}`; where that fails too, look at the config.",
                self.command("refresh")
            ),
        }
    }

    /// The name under which it is opened.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// What to type for a command on this connection.
    pub fn command(&self, verb: &str) -> String {
        format!("tokenwell {}{verb} {}", self.arguments, self.name)
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Kind;
    use serde_json::json;

    fn patched(mut target: Value, patch: Value) -> Value {
        merge_patch(&mut target, patch);
        target
    }

    fn set(overrides: &[&str]) -> Value {
        let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().unwrap()).collect();
        let mut document = json!({});
        apply(&mut document, &overrides);
        document
    }

    #[test]
    fn merging_follows_the_test_cases_of_rfc_7396_appendix_a() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            assert_eq!(
                patched(target.clone(), patch.clone()),
                result,
                "{target} patched with {patch}"
            );
        }
    }

    #[test]
    fn set_takes_json_where_it_is_json_and_text_elsewhere() {
        assert_eq!(
            set(&[
                "pkce=false",
                "scope=openid profile",
                "client_secret={\"ref\":\"env:S\"}",
                "timeout=5"
            ]),
            json!({"pkce": false, "scope": "openid profile", "client_secret": {"ref": "env:S"}, "timeout": 5})
        );
    }

    #[test]
    fn set_keeps_digits_as_text_where_a_field_holds_text() {
        assert_eq!(
            set(&["client_id=4711", "parameters.tenant=12"]),
            json!({"client_id": "4711", "parameters": {"tenant": "12"}})
        );
    }

    #[test]
    fn set_reaches_into_nested_fields_and_null_removes() {
        assert_eq!(
            set(&[
                "renewal.early_seconds=60",
                "renewal.max_attempts=3",
                "renewal.early_seconds=null"
            ]),
            json!({"renewal": {"max_attempts": 3}})
        );
    }

    #[test]
    fn set_keeps_what_follows_the_first_equals_sign() {
        assert_eq!(
            set(&["token_endpoint=https://as.example/?a=b"]),
            json!({"token_endpoint": "https://as.example/?a=b"})
        );
    }

    #[test]
    fn set_without_a_field_is_refused() {
        for text in ["scope", "=x", "a..b=x", ".a=x"] {
            assert!(text.parse::<Override>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_with_a_dot_or_a_separator_is_refused() {
        for text in ["", "a.b", "../x", "a/b", "-a", "_a", "ä", &"a".repeat(49)] {
            assert!(text.parse::<ConnectionName>().is_err(), "{text}");
        }
        for text in ["a", "Shop-1_x", &"a".repeat(48)] {
            assert!(text.parse::<ConnectionName>().is_ok(), "{text}");
        }
    }

    #[test]
    fn redaction_hides_secrets_and_keeps_references() {
        let mut document = json!({
            "client_id": "shop",
            "client_secret": "s3cret",
            "password": {"ref": "env:PASSWORD"},
            "refresh_token": "rt",
            "subject_token": {"value": "st"},
            "signing_key": {"ref": "file:key.pem"},
            "token_endpoint_auth_method": "client_secret_basic",
            "token_headers": {"X-Api-Key": "k"},
            "token_parameters": "odd",
        });
        redact(&mut document);
        assert_eq!(
            document,
            json!({
                "client_id": "shop",
                "client_secret": "***",
                "password": {"ref": "env:PASSWORD"},
                "refresh_token": "***",
                "subject_token": "***",
                "signing_key": {"ref": "file:key.pem"},
                "token_endpoint_auth_method": "client_secret_basic",
                "token_headers": {"X-Api-Key": "***"},
                "token_parameters": "***",
            })
        );
    }

    #[test]
    fn a_profile_is_laid_over_the_config() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(root.path().into())).unwrap();
        let (name, dev): (ConnectionName, ProfileName) =
            ("shop".parse().unwrap(), "dev".parse().unwrap());
        directory
            .write(
                &directory.file(&name, None),
                &json!({"client_id": "live", "scope": "a"}),
                false,
            )
            .unwrap();
        directory
            .write(
                &directory.file(&name, Some(&dev)),
                &json!({"client_id": "dev", "scope": null}),
                false,
            )
            .unwrap();

        assert_eq!(
            directory.load(&name, Some(&dev)).unwrap(),
            json!({"client_id": "dev"})
        );
        assert_eq!(
            directory.load(&name, None).unwrap(),
            json!({"client_id": "live", "scope": "a"})
        );
        assert_eq!(directory.names(None).unwrap(), std::slice::from_ref(&name));
        assert_eq!(directory.profiles(&name).unwrap(), [dev]);
    }

    #[test]
    fn a_profile_that_is_not_there_does_not_fall_through_to_the_config() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(root.path().into())).unwrap();
        let name: ConnectionName = "shop".parse().unwrap();
        directory
            .write(&directory.file(&name, None), &json!({}), false)
            .unwrap();

        let failure = directory
            .load(&name, Some(&"dve".parse().unwrap()))
            .unwrap_err();
        assert_eq!(failure.kind, Kind::NotConfigured);
        assert!(
            failure.message.contains("has no profile dve"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn writing_does_not_replace_unless_told_to() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(root.path().join("new"))).unwrap();
        let path = directory.file(&"shop".parse().unwrap(), None);
        directory
            .write(&path, &json!({"client_id": "first"}), false)
            .unwrap();

        let failure = directory
            .write(&path, &json!({"client_id": "second"}), false)
            .unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(fs::read_to_string(&path).unwrap().contains("first"));

        directory
            .write(&path, &json!({"client_id": "second"}), true)
            .unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("second"));
    }

    #[cfg(unix)]
    #[test]
    fn a_written_config_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(root.path().join("new"))).unwrap();
        let path = directory.file(&"shop".parse().unwrap(), None);
        directory.write(&path, &json!({}), false).unwrap();

        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
