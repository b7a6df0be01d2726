//! The table of what is shown to work: each standard and grant, with the tests that
//! show it. It is made of the tests themselves: a test says with a line `/// Shows:
//! RFC 7009.` above it what it shows, and what it does it against is read from what
//! it calls.
//!
//! `TOKENWELL_WRITE=1 cargo test -p tokenwell-tests --test coverage` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tokenwell_tests::workspace;

/// What there has to be a test for, in the order of the table.
const STANDARDS: [(&str, &str); 36] = [
    ("RFC 6749 section 2.3.1", "a client's password"),
    ("RFC 6749 section 4.1", "the grant authorization_code"),
    ("RFC 6749 section 4.1.2.1", "the user or the server says no"),
    ("RFC 6749 section 4.3", "the grant password"),
    ("RFC 6749 section 4.4", "the grant client_credentials"),
    ("RFC 6749 section 4.5", "extension grants"),
    ("RFC 6749 section 5.1", "the token response"),
    ("RFC 6749 section 5.2", "the error response"),
    ("RFC 6749 section 6", "the grant refresh_token"),
    ("RFC 6749 section 10.12", "cross-site request forgery"),
    ("RFC 6750", "bearer tokens"),
    ("RFC 7009", "revocation"),
    ("RFC 7521, RFC 7523 section 2.1", "the grant jwt-bearer"),
    ("RFC 7521, RFC 7523 section 2.2", "a client's assertion"),
    ("RFC 7591", "registration"),
    ("RFC 7636", "PKCE"),
    ("RFC 7662", "introspection"),
    ("RFC 8252", "native applications"),
    ("RFC 8414", "the server's metadata"),
    ("RFC 8628", "the grant device_code"),
    ("RFC 8628 section 3.5", "slow_down"),
    ("RFC 8693", "the grant token-exchange"),
    ("RFC 8705", "a client's TLS certificate"),
    ("RFC 8707", "resource indicators"),
    ("RFC 9101", "signed authorization requests"),
    ("RFC 9126", "pushed authorization requests"),
    ("RFC 9207", "the issuer in the redirect"),
    ("RFC 9449", "DPoP"),
    ("RFC 9700", "the best current practice for security"),
    ("RFC 9728", "a resource's metadata"),
    ("OpenID Connect Core section 3.1.3.7", "id_tokens"),
    ("OpenID Connect Core section 5.3", "userinfo"),
    ("OpenID Connect Discovery", "the server's metadata"),
    (
        "OAuth 2.0 Form Post Response Mode",
        "response_mode form_post",
    ),
    (
        "guest/providers/README.md, requests",
        "what providers want otherwise",
    ),
    (
        "guest/providers/README.md, responses",
        "what providers answer otherwise",
    ),
];

/// Where tests are, and how they are called in the table.
const PLACES: [(&str, &str); 4] = [
    ("guest/core/src", "core"),
    ("guest/connection/src", "connection"),
    ("host/src", "host"),
    ("tests/tests", ""),
];

/// What a test is done against, by what is called for it.
const AGAINST: [(&str, &str); 3] = [
    ("OidcProvider", "oidc-provider"),
    ("AuthlibServer", "Authlib"),
    ("ScriptedServer", "a scripted server"),
];

const MARK: &str = "/// Shows: ";

/// A function of a source file.
struct Function {
    name: String,
    /// From its attributes on.
    text: String,
    shows: Vec<String>,
}

/// The functions of a source as rustfmt leaves it: a function ends with a brace as
/// far in as it began.
fn functions(source: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut shows = Vec::new();
    let mut open: Option<(String, Function)> = None;
    for line in source.lines() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        if let Some((end, mut function)) = open.take() {
            function.text.push_str(line);
            function.text.push('\n');
            if line == end {
                functions.push(function);
            } else {
                open = Some((end, function));
            }
            continue;
        }
        if let Some(mark) = trimmed.strip_prefix(MARK) {
            shows.push(mark.trim_end_matches('.').to_owned());
            continue;
        }
        let Some((before, after)) = trimmed.split_once("fn ") else {
            if !trimmed.starts_with("#[") && !trimmed.starts_with("///") {
                assert!(shows.is_empty(), "a mark with no test below it: {shows:?}");
            }
            continue;
        };
        let is_function = before
            .split_whitespace()
            .all(|word| ["pub", "pub(crate)", "pub(super)", "async", "const"].contains(&word));
        if !is_function || trimmed.starts_with("//") {
            continue;
        }
        let is_name = |character: char| character.is_alphanumeric() || character == '_';
        let name: String = after.chars().take_while(|found| is_name(*found)).collect();
        let function = Function {
            name,
            text: format!("{line}\n"),
            shows: std::mem::take(&mut shows),
        };
        // One that ends on its line.
        if line.ends_with('}') {
            functions.push(function);
        } else {
            open = Some((format!("{indent}}}"), function));
        }
    }
    assert!(shows.is_empty(), "a mark with no test below it: {shows:?}");
    functions
}

/// Everything that a function says, with what it calls among those known.
fn reaches(function: &Function, known: &BTreeMap<&str, &Function>) -> String {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let mut next = vec![function];
    while let Some(function) = next.pop() {
        if !seen.insert(&function.name) {
            continue;
        }
        text.push_str(&function.text);
        let called = known.iter().filter(|(name, _)| calls(&function.text, name));
        next.extend(called.map(|(_, found)| *found));
    }
    text
}

/// Whether a text calls a function of that name.
fn calls(text: &str, name: &str) -> bool {
    let call = format!("{name}(");
    let mut places = text.match_indices(&call);
    places.any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    let mut entries: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tests by what they show and what they do it against.
type Shown = BTreeMap<String, BTreeMap<&'static str, Vec<String>>>;

fn shown() -> Shown {
    let mut shown = Shown::new();
    for (folder, called) in PLACES {
        let folder = workspace().join(folder);
        let mut paths = Vec::new();
        sources(&folder, &mut paths);
        for path in paths {
            let own = functions(&read(&path));
            let beside = path.with_file_name("support.rs");
            let support = if beside.is_file() {
                functions(&read(&beside))
            } else {
                Vec::new()
            };
            let known = support.iter().chain(&own);
            let known: BTreeMap<_, _> = known.map(|found| (found.name.as_str(), found)).collect();
            let within = path.strip_prefix(&folder).expect("a source in the folder");
            let within = within
                .with_extension("")
                .to_string_lossy()
                .replace(['/', '\\'], "::");
            for function in own.iter().filter(|function| !function.shows.is_empty()) {
                let name = format!("{called}::{within}::{}", function.name);
                let name = name.trim_start_matches("::");
                let text = reaches(function, &known);
                let mut against: Vec<_> = AGAINST
                    .iter()
                    .filter(|(word, _)| text.contains(word))
                    .map(|(_, server)| *server)
                    .collect();
                if !called.is_empty() {
                    against = vec!["natively"];
                }
                assert!(
                    !against.is_empty(),
                    "nobody knows what {name} is done against"
                );
                for standard in &function.shows {
                    let tests = shown.entry(standard.clone()).or_default();
                    for server in &against {
                        tests.entry(server).or_default().push(name.to_owned());
                    }
                }
            }
        }
    }
    shown
}

fn table(shown: &Shown) -> String {
    let mut table = "\
# What is shown to work, by which test

Made of the tests by `TOKENWELL_WRITE=1 cargo test -p tokenwell-tests --test coverage`, and held against them in every run. A test
says what it shows in a line `/// Shows: …` above it; `tests/tests/coverage.rs` has the list of what there must be a test for.

*Natively* is in the core or the host, without the component; all else goes through the command line and the component: to
npm's `oidc-provider` and PyPI's `Authlib`, which are real servers, and to one that answers as the test dictates. Not here, since
they are not supported: RFC 7592, RFC 9396.

| standard | what | natively | oidc-provider | Authlib | a scripted server |
|---|---|---|---|---|---|
"
    .to_owned();
    for (standard, what) in STANDARDS {
        let mut row = format!("| {standard} | {what} |");
        for server in ["natively", "oidc-provider", "Authlib", "a scripted server"] {
            let tests = shown.get(standard).and_then(|by| by.get(server));
            let tests: Vec<_> = tests
                .into_iter()
                .flatten()
                .map(|name| format!("`{name}`"))
                .collect();
            write!(row, " {} |", tests.join("<br>")).expect("a text");
        }
        table.push_str(&row);
        table.push('\n');
    }
    table
}

#[test]
fn each_standard_has_a_test_and_each_mark_a_standard() {
    let shown = shown();
    let listed: BTreeSet<_> = STANDARDS.iter().map(|(standard, _)| *standard).collect();
    let marked: BTreeSet<_> = shown.keys().map(String::as_str).collect();
    let without: Vec<_> = listed.difference(&marked).collect();
    assert!(without.is_empty(), "no test shows {without:?}");
    let unlisted: Vec<_> = marked.difference(&listed).collect();
    assert!(
        unlisted.is_empty(),
        "marks name what is not listed: {unlisted:?}"
    );
}

#[test]
fn only_tests_bear_marks() {
    for (folder, _) in PLACES {
        let mut paths = Vec::new();
        sources(&workspace().join(folder), &mut paths);
        for path in paths {
            let source = read(&path);
            let lines: Vec<_> = source.lines().map(str::trim).collect();
            for (at, _) in lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.starts_with(MARK))
            {
                let below = lines[at..].iter().find(|line| !line.starts_with("///"));
                let is_test = below.is_some_and(|line| {
                    line.starts_with("#[test") || line.starts_with("#[tokio::test")
                });
                assert!(is_test, "{}: line {} marks no test", path.display(), at + 1);
            }
        }
    }
}

#[test]
fn the_table_is_the_one_that_the_tests_make() {
    let path = workspace().join("tests/COVERAGE.md");
    let made = table(&shown());
    if std::env::var_os("TOKENWELL_WRITE").is_some() {
        fs::write(&path, &made).expect("the table can be written");
    }
    let kept = fs::read_to_string(&path)
        .unwrap_or_default()
        .replace("\r\n", "\n");
    assert!(
        kept == made,
        "tests/COVERAGE.md is out of date: TOKENWELL_WRITE=1 cargo test -p tokenwell-tests --test coverage"
    );
}

#[test]
fn a_function_ends_where_its_brace_is() {
    let source = "mod tests {\n    /// Shows: RFC 1.\n    #[test]\n    fn one() {\n        if true {\n        }\n        two();\n    }\n    fn two() {}\n}\n";
    let found = functions(source);
    let names: Vec<_> = found
        .iter()
        .map(|function| function.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(found[0].shows, ["RFC 1"]);
    assert!(found[0].text.contains("two();") && found[1].shows.is_empty());
}

#[test]
fn what_a_test_calls_is_followed_and_what_it_merely_names_is_not() {
    let source = "fn server() {\n    OidcProvider::start()\n}\n#[test]\nfn one() {\n    server();\n}\n#[test]\nfn two() {\n    \"server\";\n    my_server();\n}\n";
    let found = functions(source);
    let known: BTreeMap<_, _> = found.iter().map(|one| (one.name.as_str(), one)).collect();
    assert!(reaches(known["one"], &known).contains("OidcProvider"));
    assert!(!reaches(known["two"], &known).contains("OidcProvider"));
}
