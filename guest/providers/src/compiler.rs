//! From the source files to the packed catalogue. Whatever is wrong with a file
//! is told, each with the field and what to do; nothing is packed then.

use crate::packing;
use crate::pattern;
use crate::schema::{FIELDS, Group, Kind, MOST_FIELDS, tag};
use serde_json::{Map, Value};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The compiled catalogue.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// The packed form: first what is known of the fields, then a text for each
    /// provider, in the order of the identifiers.
    pub packed: Vec<u8>,
    /// The fields as the constants of a Rust type `Field`.
    pub constants: String,
    /// How many providers there are.
    pub count: usize,
    /// How long the texts are without packing, in bytes.
    pub plain: usize,
}

/// What is wrong with a source file.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The file's name without `.json`.
    pub file: String,
    /// The field; empty for the file itself.
    pub field: String,
    /// What is wrong, as the second half of a sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}.json: {} {}",
            self.file, self.field, self.message
        )
    }
}

/// Where the source files are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue")
}

/// Compiles the files of a directory.
///
/// # Errors
/// Everything that is wrong with them; that they cannot be read.
pub fn compile(directory: &Path) -> Result<Catalogue, Vec<Problem>> {
    let unreadable = |error: io::Error| {
        vec![problem(
            &directory.display().to_string(),
            "",
            &format!("cannot be read: {error}"),
        )]
    };
    let mut sources = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            sources.push((stem, fs::read_to_string(&path).map_err(unreadable)?));
        }
    }
    compile_sources(&sources)
}

/// Compiles sources, each an identifier and the JSON of its entry.
///
/// # Errors
/// Everything that is wrong with them.
pub fn compile_sources(sources: &[(String, String)]) -> Result<Catalogue, Vec<Problem>> {
    let mut sources: Vec<_> = sources.iter().collect();
    sources.sort();
    let mut problems = Vec::new();
    let mut texts = vec![descriptions()];
    for (id, source) in &sources {
        match serde_json::from_str::<Map<String, Value>>(source) {
            Ok(entry) => texts.push(Entry::new(id, &entry, &mut problems).compile()),
            Err(error) => problems.push(problem(id, "", &format!("is no JSON object: {error}"))),
        }
    }
    for pair in sources.windows(2) {
        if pair[0].0 == pair[1].0 {
            problems.push(problem(&pair[0].0, "", "is there twice"));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let packed = packing::pack(&texts).map_err(|what| vec![problem("", "", &what)])?;
    Ok(Catalogue {
        packed,
        constants: constants(),
        count: sources.len(),
        plain: texts.iter().map(String::len).sum(),
    })
}

fn problem(file: &str, field: &str, message: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

/// What is known of each field: its tag, the config's field that it sets, and
/// what it says, with tabs between.
fn descriptions() -> String {
    let mut text = String::new();
    for (at, field) in FIELDS.iter().enumerate() {
        if field.config.is_some() || !field.sentence.is_empty() {
            text.push(char::from(tag(at)));
            text.push_str(field.config.unwrap_or_default());
            text.push('\t');
            text.push_str(field.sentence);
            text.push('\n');
        }
    }
    text
}

/// The fields as Rust constants.
fn constants() -> String {
    assert!(
        FIELDS.len() <= MOST_FIELDS,
        "there are more fields than characters"
    );
    let mut code = "impl Field {\n".to_owned();
    for (at, field) in FIELDS.iter().enumerate() {
        let (name, upper) = (field.name, field.name.to_ascii_uppercase());
        code += &format!(
            "    /// `{name}` of guest/providers/README.md.\n    pub const {upper}: Self = Self({});\n",
            tag(at)
        );
    }
    code + "}\n"
}

/// The sources that an entry names, and the groups of fields they are for.
const SOURCES: [(&str, Group); 2] = [
    ("endpoints", Group::Endpoints),
    ("behaviour", Group::Behaviour),
];

/// What is known when the client's assertion is made.
const ASSERTION_PLACEHOLDERS: [(&str, &str); 2] = [
    ("assertion_issuer", "redirect_host"),
    ("assertion_audience", "token_endpoint"),
];

/// Fields that are of no use without another.
const NEEDS: [(&str, &str); 7] = [
    (
        "token_request_sends_callback_parameters",
        "callback_parameters",
    ),
    ("revocation_method", "revocation_endpoint"),
    ("revocation_endpoint_auth_method", "revocation_endpoint"),
    ("revocation_request_format", "revocation_endpoint"),
    ("revocation_parameter_names", "revocation_endpoint"),
    ("revocation_token", "revocation_endpoint"),
    (
        "introspection_endpoint_auth_method",
        "introspection_endpoint",
    ),
];

/// What an exchange's parameters may contain beside the provider's own.
const EXCHANGE_PLACEHOLDERS: [&str; 3] = ["client_id", "client_secret", "access_token"];

/// One entry while it is compiled.
struct Entry<'a> {
    id: &'a str,
    fields: &'a Map<String, Value>,
    problems: &'a mut Vec<Problem>,
    /// The names of the parameters with their patterns, and whether a
    /// placeholder for it was met.
    parameters: Vec<(String, String, bool)>,
}

impl<'a> Entry<'a> {
    fn new(id: &'a str, fields: &'a Map<String, Value>, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            id,
            fields,
            problems,
            parameters: Vec::new(),
        }
    }

    fn refuse(&mut self, field: &str, message: impl AsRef<str>) {
        self.problems
            .push(problem(self.id, field, message.as_ref()));
    }

    /// The identifier, then a line for each value: the field's tag and the value.
    fn compile(mut self) -> String {
        let is_id = (1..=40).contains(&self.id.len())
            && self
                .id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !self.id.starts_with('-');
        if !is_id {
            self.refuse("", "has a name that is not 1 to 40 of a-z, 0-9 and -");
        }
        for name in self.fields.keys() {
            if name != "sources" && FIELDS.iter().all(|field| field.name != name) {
                self.refuse(name, "is not a field of the format");
            }
        }
        let mut text = format!("{}\n", self.id);
        for (at, field) in FIELDS.iter().enumerate() {
            let Some(value) = self.fields.get(field.name) else {
                continue;
            };
            for line in self.lines(field.name, field.kind, value) {
                if line
                    .bytes()
                    .any(|byte| byte != b'\t' && !(b' '..=b'~').contains(&byte))
                {
                    self.refuse(field.name, "contains a character beyond printable ASCII");
                }
                text.push(char::from(tag(at)));
                text.push_str(&line);
                text.push('\n');
            }
        }
        self.check_whole();
        text
    }

    fn lines(&mut self, name: &str, kind: Kind, value: &Value) -> Vec<String> {
        match (kind, value) {
            (Kind::Text, Value::String(text)) => self.text(name, text),
            (Kind::Page, Value::String(text)) => {
                if let Some(what) = url_problem(text) {
                    self.refuse(name, what);
                }
                vec![text.clone()]
            }
            (Kind::Endpoint, Value::String(text)) => {
                self.check_endpoint(name, text);
                vec![text.clone()]
            }
            (Kind::Flag, Value::Bool(true)) => vec![String::new()],
            (Kind::Number, Value::Number(number))
                if number
                    .as_u64()
                    .is_some_and(|number| (1..=u64::from(u32::MAX)).contains(&number)) =>
            {
                vec![number.to_string()]
            }
            (Kind::Choice(choices), Value::String(text)) => {
                if !choices.contains(&text.as_str()) {
                    self.refuse(name, format!("is none of {}", choices.join(" ")));
                }
                vec![text.clone()]
            }
            (Kind::List, Value::Array(values)) if !values.is_empty() => {
                let mut lines = Vec::new();
                for value in values {
                    match value {
                        Value::String(text) => lines.extend(self.text(name, text)),
                        _ => self.refuse(name, "has an item that is no text"),
                    }
                }
                lines
            }
            (Kind::Map, Value::Object(map)) if !map.is_empty() => {
                let mut lines = Vec::new();
                for (key, value) in map {
                    match value {
                        Value::String(text) if !key.is_empty() && !key.contains('=') => {
                            self.text(name, text);
                            lines.push(format!("{key}={text}"));
                        }
                        _ => {
                            self.refuse(name, "has an item that is no text, or with = in its name")
                        }
                    }
                }
                lines
            }
            (Kind::Parameters, Value::Object(map)) => self.parameters(map),
            _ => {
                self.refuse(name, format!("is not what it must be, or empty: {kind:?}"));
                Vec::new()
            }
        }
    }

    fn text(&mut self, name: &str, text: &str) -> Vec<String> {
        if text.is_empty() || text.len() > 300 || text.trim() != text {
            self.refuse(
                name,
                "is empty, longer than 300 characters, or has spaces around it",
            );
        }
        if name != "peculiarities" {
            for placeholder in placeholders(text) {
                let is_known = self.meet(placeholder)
                    || name == "exchange_parameters"
                        && EXCHANGE_PLACEHOLDERS.contains(&placeholder)
                    || ASSERTION_PLACEHOLDERS.contains(&(name, placeholder));
                if !is_known {
                    self.refuse(
                        name,
                        format!("has {{{placeholder}}}, which is no parameter"),
                    );
                }
            }
        }
        vec![text.to_owned()]
    }

    /// Whether there is a parameter of that name; it is used from now on.
    fn meet(&mut self, name: &str) -> bool {
        let found = self.parameters.iter_mut().find(|(known, ..)| known == name);
        found.map(|(_, _, is_used)| *is_used = true).is_some()
    }

    fn parameters(&mut self, map: &Map<String, Value>) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, value) in map {
            let field = format!("parameters.{name}");
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if !is_name || EXCHANGE_PLACEHOLDERS.contains(&name.as_str()) {
                self.refuse(
                    &field,
                    "has a name that is not of a-z and _, or has a meaning of its own",
                );
            }
            let empty = Map::new();
            let parts = value.as_object().unwrap_or(&empty);
            if let Some(unknown) = parts
                .keys()
                .find(|key| !["help", "pattern", "default", "optional"].contains(&key.as_str()))
            {
                self.refuse(&field, format!("has {unknown}, which no parameter has"));
            }
            let text = |key: &str| parts.get(key).and_then(Value::as_str).unwrap_or_default();
            let (help, pattern, default) = (text("help"), text("pattern"), text("default"));
            let is_optional = parts.get("optional") == Some(&Value::Bool(true));
            if help.is_empty()
                || [help, pattern, default]
                    .iter()
                    .any(|text| text.contains('\t'))
            {
                self.refuse(&field, "has no help, or a tab in it");
            }
            if let Err(what) = pattern::check(pattern) {
                self.refuse(&field, format!("has a pattern that {what}"));
            }
            if !default.is_empty() && !pattern::matches(pattern, default) {
                self.refuse(&field, "has a default that does not match its pattern");
            }
            let need = if is_optional || !default.is_empty() {
                '-'
            } else {
                '!'
            };
            lines.push(format!("{name}\t{pattern}\t{need}{default}\t{help}"));
            self.parameters
                .push((name.clone(), pattern.to_owned(), false));
        }
        lines
    }

    fn check_endpoint(&mut self, name: &str, text: &str) {
        let mut filled = text.to_owned();
        let claims = name == "id_token_issuer";
        for placeholder in placeholders(text) {
            let braced = format!("{{{placeholder}}}");
            filled = filled.replace(&braced, "x1");
            let found = self
                .parameters
                .iter()
                .find(|(known, ..)| known == placeholder);
            let Some((_, pattern, _)) = found.cloned() else {
                // There the other placeholders are claims of the id_token.
                let is_client = name == "revocation_endpoint" && placeholder == "client_id";
                if !claims && !is_client {
                    self.refuse(name, format!("has {braced}, which is no parameter"));
                }
                continue;
            };
            self.meet(placeholder);
            let authority = text.strip_prefix("https://").unwrap_or_default();
            let authority = authority.split(['/', '?']).next().unwrap_or_default();
            let is_whole_host = authority == braced;
            let is_in_host = authority.contains(&braced);
            if is_in_host && !is_whole_host && authority.ends_with(&braced) {
                self.refuse(name, format!("has {braced} where it chooses the domain"));
            }
            let (all, first) = pattern::alphabet(&pattern);
            let is_safe = |byte: &u8| {
                byte.is_ascii_alphanumeric()
                    || b".-_".contains(byte)
                    || *byte == b'~' && !is_in_host
                    || *byte == b':' && is_whole_host
            };
            if !all.iter().all(is_safe) || first.contains(&b'.') {
                self.refuse(
                    name,
                    format!("has {braced}, whose pattern lets in more than a part of it"),
                );
            }
        }
        if let Some(what) = url_problem(&filled) {
            self.refuse(name, what);
        }
    }

    /// What only shows when all fields have been read.
    fn check_whole(&mut self) {
        for name in ["name", "documentation_page"] {
            if !self.fields.contains_key(name) {
                self.refuse(name, "is missing");
            }
        }
        if !self.fields.contains_key("issuer") && !self.fields.contains_key("token_endpoint") {
            self.refuse("token_endpoint", "is missing, and so is the issuer");
        }
        for (one, other) in [
            ("exchange_endpoint", "exchange_parameters"),
            ("success_field", "success_value"),
            ("callback_server_parameter", "callback_servers"),
        ] {
            if self.fields.contains_key(one) != self.fields.contains_key(other) {
                self.refuse(one, format!("goes together with {other}"));
            }
        }
        for (name, needed) in NEEDS {
            if self.fields.contains_key(name) && !self.fields.contains_key(needed) {
                self.refuse(name, format!("is of no use without {needed}"));
            }
        }
        let text = |name: &str| self.fields.get(name).and_then(Value::as_str);
        let format = text("revocation_request_format");
        let method = text("revocation_endpoint_auth_method");
        if format == Some("query") && matches!(method, None | Some("client_secret_post")) {
            self.refuse(
                "revocation_request_format",
                "would put the secret into the URL: name another revocation_endpoint_auth_method",
            );
        }
        if let Some(Value::Array(servers)) = self.fields.get("callback_servers") {
            for server in servers.iter().filter_map(Value::as_str) {
                if url_problem(server).is_some() || server[8..].contains(['/', '?']) {
                    self.refuse(
                        "callback_servers",
                        format!("has {server}, which is no origin"),
                    );
                }
            }
        }
        for (name, _, is_used) in self.parameters.clone() {
            if !is_used {
                self.refuse(&format!("parameters.{name}"), "is used nowhere");
            }
        }
        self.check_sources();
    }

    fn check_sources(&mut self) {
        let empty = Map::new();
        let sources = self
            .fields
            .get("sources")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        for (name, group) in SOURCES {
            let has_facts = FIELDS
                .iter()
                .any(|field| field.group == group && self.fields.contains_key(field.name));
            let source = sources.get(name);
            let texts: Vec<_> = match source {
                Some(Value::Array(texts)) => texts.iter().collect(),
                Some(text) => vec![text],
                None => Vec::new(),
            };
            let are_texts = texts
                .iter()
                .all(|text| text.as_str().is_some_and(|text| !text.is_empty()));
            if has_facts == texts.is_empty() || !are_texts {
                self.refuse(
                    &format!("sources.{name}"),
                    "must say where those facts are from, if there are any",
                );
            }
        }
        if let Some(name) = sources
            .keys()
            .find(|name| SOURCES.iter().all(|(known, _)| known != name))
        {
            self.refuse(&format!("sources.{name}"), "is no group of facts");
        }
    }
}

/// The names in braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

/// What is wrong with a URL, as the second half of a sentence.
fn url_problem(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Some(format!("is not https: {text}"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !host.split('.').all(is_label)
        || rest.contains(['#', '{', '}', '\\', ' ', '"', '<', '>', '@'])
    {
        return Some(format!("is no plain URL: {text}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"name": "Example", "token_endpoint": "https://{shop}.as.example/t",
        "parameters": {"shop": {"help": "The shop.", "pattern": "[a-z0-9-]{1,9}"}},
        "documentation_page": "https://as.example/docs",
        "sources": {"endpoints": "https://as.example/docs"}}"#;

    fn compiled(entry: &str) -> Result<Catalogue, Vec<Problem>> {
        compile_sources(&[("example".to_owned(), entry.to_owned())])
    }

    #[test]
    fn a_right_entry_is_packed_line_by_line() {
        let catalogue = compiled(ENTRY).expect("right");
        let texts: Vec<_> = packing::Packed::new(&catalogue.packed)
            .texts()
            .map(|text| text.unpack())
            .collect();
        assert_eq!(texts.len(), 2);
        let tag = |name: &str| {
            let at = FIELDS.iter().position(|field| field.name == name);
            char::from(tag(at.expect("a field")))
        };
        let lines: Vec<_> = texts[1].lines().collect();
        assert_eq!(
            lines,
            [
                "example",
                &format!("{}Example", tag("name")),
                &format!("{}shop	[a-z0-9-]{{1,9}}	!	The shop.", tag("parameters")),
                &format!("{}https://{{shop}}.as.example/t", tag("token_endpoint")),
                &format!("{}https://as.example/docs", tag("documentation_page")),
            ]
        );
    }

    #[test]
    fn a_wrong_entry_is_refused_with_file_field_and_reason() {
        for (part, instead, told) in [
            ("\"name\"", "\"nmae\"", "example.json: nmae is not a field"),
            (
                "\"Example\"",
                "7",
                "example.json: name is not what it must be",
            ),
            ("\"Example\"", "\"Exämple\"", "name contains a character"),
            (
                "https://{shop}",
                "http://{shop}",
                "token_endpoint is not https",
            ),
            (
                "https://{shop}",
                "https://x@{shop}",
                "token_endpoint is no plain URL",
            ),
            (
                "https://{shop}.as.example/t",
                "https://as.{shop}/t",
                "chooses the domain",
            ),
            (
                "{shop}.as",
                "{store}.as",
                "token_endpoint has {store}, which is no parameter",
            ),
            ("{shop}.as", "as", "parameters.shop is used nowhere"),
            (
                "[a-z0-9-]{1,9}",
                "[a-z/]{1,9}",
                "whose pattern lets in more",
            ),
            (
                "[a-z0-9-]{1,9}",
                "[a-z@]{1,9}",
                "whose pattern lets in more",
            ),
            (
                "[a-z0-9-]{1,9}",
                "[a-z.]{1,9}",
                "whose pattern lets in more",
            ),
            (
                "[a-z0-9-]{1,9}",
                "[a-z:]{1,9}",
                "whose pattern lets in more",
            ),
            ("[a-z0-9-]{1,9}", ".*", "parameters.shop has a pattern that"),
            (
                "{1,9}\"",
                "{1,9}\", \"default\": \"TOO\"",
                "default that does not match",
            ),
            (
                "\"help\": \"The shop.\", ",
                "",
                "parameters.shop has no help",
            ),
            (
                "\"sources\": {\"endpoints\"",
                "\"sources\": {\"behaviour\"",
                "sources.endpoints must say",
            ),
            (
                "\"documentation_page\": \"https",
                "\"registration_page\": \"https",
                "documentation_page is missing",
            ),
            (
                "\"sources\"",
                "\"scope_separator\": \";\", \"sources\"",
                "scope_separator is none of",
            ),
            (
                "\"sources\"",
                "\"early_seconds\": 0, \"sources\"",
                "early_seconds is not what",
            ),
            (
                "\"sources\"",
                "\"success_field\": \"ok\", \"sources\"",
                "success_field goes together",
            ),
            ("}}", "}", "is no JSON object"),
        ] {
            let entry = ENTRY.replacen(part, instead, 1);
            assert_ne!(entry, ENTRY, "{part} is not there");
            let problems = compiled(&entry).expect_err(told);
            let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
            assert!(
                problems.iter().any(|problem| problem.contains(told)),
                "{told}: {problems:?}"
            );
        }
    }

    #[test]
    fn a_parameter_may_be_the_whole_host_if_its_pattern_is_one_of_hosts() {
        let entry = ENTRY
            .replace("{shop}.as.example", "{shop}")
            .replace("[a-z0-9-]{1,9}", "[a-z0-9][a-z0-9.:-]{0,99}");
        let compiled = compiled(&entry);
        assert!(compiled.is_ok(), "{compiled:?}");
    }

    #[test]
    fn an_identifier_is_short_and_plain() {
        for id in ["", "Google", "a b", "-x", "../x"] {
            let compiled = compile_sources(&[(id.to_owned(), ENTRY.to_owned())]);
            assert!(compiled.is_err(), "{id}");
        }
    }

    #[test]
    fn the_catalogue_is_right() {
        let catalogue = compile(&directory()).unwrap_or_else(|problems| {
            let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
            panic!("{}", problems.join("\n"))
        });
        println!(
            "{} providers: {} bytes, {} packed",
            catalogue.count,
            catalogue.plain,
            catalogue.packed.len()
        );
    }

    #[test]
    fn the_readme_explains_every_field() {
        let readme = include_str!("../README.md");
        for field in FIELDS {
            let row = format!("| `{}`", field.name);
            assert!(readme.contains(&row), "{}", field.name);
        }
    }
}
