//! What the commands print: lines and tables for readers, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value, json};
use tokenwell::{
    ConnectionState, DeviceAuthorization, Event, Problem, RenewalReason, Severity, Status, Token,
};
use tokenwell_core::record;

use super::document::Subject;
use super::failure::Failure;

const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Text that tells of trouble.
pub fn bad(text: &str) -> String {
    styled(BAD, text)
}

/// Text that is not meant for the first look.
pub fn dim(text: &str) -> String {
    styled(DIM, text)
}

/// Text that stands out.
pub fn bold(text: &str) -> String {
    styled(BOLD, text)
}

/// Writes to standard output at once; colours reach terminals only.
///
/// # Errors
/// A closed pipe, which ends the command quietly, or a failure to write.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::standard_output(&error))
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::standard_output(&error))
}

/// Writes one JSON value: on one line for programs, indented on a terminal.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &Value) -> Result<(), Failure> {
    let text = if io::stdout().is_terminal() {
        format!("{value:#}\n")
    } else {
        format!("{value}\n")
    };
    print_bytes(text.as_bytes())
}

/// Writes one JSON value on one line, for those who read line by line.
///
/// # Errors
/// As [`print`].
pub fn print_json_line(value: &Value) -> Result<(), Failure> {
    print_bytes(format!("{value}\n").as_bytes())
}

/// Writes a remark to standard error. Where nobody listens there, nothing is
/// lost that the exit code does not tell.
pub fn note(text: &str) {
    let mut err = anstream::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// The text with everything that could steer a terminal made visible: much of
/// what is printed was written by servers.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// The time, in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A time for a reader: `2026-11-22T07:49:44Z (in 59 minutes)`.
pub fn instant(at: u64, now: u64) -> String {
    format!("{} ({})", time(at), relative(at, now))
}

/// A time as RFC 3339 has it, where the calendar reaches that far.
pub fn time(at: u64) -> String {
    i64::try_from(at)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("Unix second {at}"), |time| time.to_string())
}

/// How far a time is from now, in the largest unit that gives at least two,
/// so that it is never off by more than a half.
pub fn relative(at: u64, now: u64) -> String {
    let distance = at.abs_diff(now);
    if distance == 0 {
        return "now".into();
    }
    let (size, unit) = [(86_400, "day"), (3_600, "hour"), (60, "minute")]
        .into_iter()
        .find(|(size, _)| distance >= 2 * size)
        .unwrap_or((1, "second"));
    let count = distance / size;
    let plural = if count == 1 { "" } else { "s" };
    if at > now {
        format!("in {count} {unit}{plural}")
    } else {
        format!("{count} {unit}{plural} ago")
    }
}

/// Rows under headings, each column as wide as its widest cell. The last one
/// is not padded.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One cell: its text, free of what steers a terminal, and how it looks.
pub struct Cell {
    text: String,
    style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text: printable(&text),
            style: Style::new(),
        }
    }
}

impl Cell {
    /// A heading.
    pub fn bold(text: &str) -> Self {
        Self {
            text: text.into(),
            style: BOLD,
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its text as it looks.
    pub fn styled(&self) -> String {
        styled(self.style, &self.text)
    }

    /// Another text that looks the same: its own, cut.
    pub fn styled_as(&self, text: &str) -> String {
        styled(self.style, text)
    }
}

impl Table {
    /// A table without rows.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            headings: headings.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines.
    pub fn render(&self) -> String {
        let width_of = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.text.chars().count())
                .chain(
                    self.headings
                        .get(column)
                        .map(|heading| heading.chars().count()),
                )
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width_of).collect();
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .map(|heading| Cell::bold(heading))
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                text.push_str(&styled(cell.style, &cell.text));
                if column + 1 < row.len() {
                    let padding = width.saturating_sub(cell.text.chars().count()) + 2;
                    text.extend(std::iter::repeat_n(' ', padding));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// The state in one word, as JSON has it.
pub fn state_name(state: &ConnectionState) -> &'static str {
    match state {
        ConnectionState::NotConfigured(_) => "not_configured",
        ConnectionState::NotAuthorized => "not_authorized",
        ConnectionState::Authorized => "authorized",
        ConnectionState::Error(_) => "error",
    }
}

/// The state for a reader.
pub fn state_cell(state: &ConnectionState) -> Cell {
    let (text, style) = match state {
        ConnectionState::NotConfigured(_) => ("not configured", WARN),
        ConnectionState::NotAuthorized => ("not authorized", WARN),
        ConnectionState::Authorized => ("authorized", GOOD),
        ConnectionState::Error(_) => ("error", BAD),
    };
    Cell {
        text: text.into(),
        style,
    }
}

/// The state of a connection that cannot even be looked at.
pub fn trouble_cell() -> Cell {
    Cell {
        text: "error".into(),
        style: BAD,
    }
}

/// Why a token was renewed, in the words of whoever renewed it.
pub fn reason(reason: RenewalReason) -> record::RenewalReason {
    match reason {
        RenewalReason::Authorization => record::RenewalReason::Authorization,
        RenewalReason::FirstToken => record::RenewalReason::FirstToken,
        RenewalReason::Expired => record::RenewalReason::Expired,
        RenewalReason::Early => record::RenewalReason::Early,
        RenewalReason::MinValidity => record::RenewalReason::MinValidity,
        RenewalReason::Rejected => record::RenewalReason::Rejected,
        RenewalReason::Requested => record::RenewalReason::Requested,
        RenewalReason::ConfigChanged => record::RenewalReason::ConfigChanged,
    }
}

/// A status as JSON.
pub fn status_json(subject: &Subject, status: &Status) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), subject.full_name().into());
    object.insert("state".into(), state_name(&status.state).into());
    match &status.state {
        ConnectionState::NotConfigured(problems) => {
            object.insert("problems".into(), problems_json(problems));
        }
        ConnectionState::Error(error) => {
            object.insert(
                "error".into(),
                Failure::of(error.clone().into(), Some(subject)).to_json(),
            );
        }
        ConnectionState::NotAuthorized | ConnectionState::Authorized => {}
    }
    object.insert("expires_at".into(), json!(status.expires_at));
    object.insert("refreshable".into(), status.refreshable.into());
    object.insert(
        "refresh_expires_at".into(),
        json!(status.refresh_expires_at),
    );
    object.insert("scope".into(), status.scope.join(" ").into());
    object.insert("authorized_at".into(), json!(status.authorized_at));
    object.insert(
        "last_renewal".into(),
        status.last_renewal.map_or(
            Value::Null,
            |renewal| json!({"at": renewal.at, "reason": reason(renewal.reason).as_str()}),
        ),
    );
    object.insert("next_retry_at".into(), json!(status.next_retry_at));
    object.insert("warnings".into(), problems_json(&status.warnings));
    Value::Object(object)
}

/// One line below the name of a connection.
pub fn field(label: &str, value: &str) -> String {
    format!("  {label:<14}{}\n", printable(value))
}

/// A status for a reader.
pub fn status_text(subject: &Subject, status: &Status, now: u64) -> String {
    let cell = state_cell(&status.state);
    let mut text = format!(
        "{}: {}\n",
        bold(subject.full_name()),
        styled(cell.style, &cell.text)
    );
    let mut line = |label: &str, value: &str| text.push_str(&field(label, value));
    if let Some(at) = status.expires_at {
        line(
            if at > now { "expires" } else { "expired" },
            &instant(at, now),
        );
    } else if status.state == ConnectionState::Authorized && status.last_renewal.is_some() {
        line("expires", "the server did not say");
    }
    if status.last_renewal.is_some() || status.expires_at.is_some() {
        match (status.refreshable, status.refresh_expires_at) {
            (true, Some(at)) => line("renewable", &format!("until {}", instant(at, now))),
            (true, None) => line("renewable", "yes"),
            (false, _) => line("renewable", "no, the user has to authorize again"),
        }
    }
    if !status.scope.is_empty() {
        line("scope", &status.scope.join(" "));
    }
    if let Some(at) = status.authorized_at {
        line("authorized", &instant(at, now));
    }
    if let Some(renewal) = status.last_renewal {
        line(
            "last renewal",
            &format!(
                "{}: {}",
                instant(renewal.at, now),
                reason(renewal.reason).describe()
            ),
        );
    }
    if let Some(at) = status.next_retry_at {
        line("next try", &instant(at, now));
    }
    match &status.state {
        ConnectionState::NotConfigured(problems) => text.push_str(&problems_text(problems)),
        ConnectionState::Error(error) => {
            let failure = Failure::of(error.clone().into(), Some(subject));
            line("why", &failure.message);
            if let Some(mend) = &failure.mend {
                line("to do", mend);
            }
            text.push_str(&problems_text(&failure.problems));
        }
        ConnectionState::NotAuthorized | ConnectionState::Authorized => {}
    }
    text.push_str(&problems_text(&status.warnings));
    text
}

/// A token as JSON.
pub fn token_json(token: &Token) -> Value {
    json!({
        "access_token": token.access_token,
        "token_type": token.token_type,
        "expires_at": token.expires_at,
        "scope": token.scope.join(" "),
        "refreshable": token.refreshable,
    })
}

/// A token for a reader, without the token.
pub fn token_text(subject: &Subject, token: &Token, now: u64) -> String {
    let expires = match token.expires_at {
        Some(at) => format!("valid until {}", instant(at, now)),
        None => "the server did not say until when it is valid".into(),
    };
    format!("{}: a new token, {expires}\n", bold(subject.full_name()))
}

/// An event as JSON.
pub fn event_json(event: &Event) -> Value {
    let details: Map<String, Value> = event
        .details
        .iter()
        .map(|detail| (detail.name.clone(), detail.value.clone().into()))
        .collect();
    json!({
        "at": event.at,
        "connection": event.connection,
        "kind": event.kind,
        "message": event.message,
        "details": details,
    })
}

/// A device authorization as JSON.
pub fn device_json(device: &DeviceAuthorization) -> Value {
    json!({
        "user_code": device.user_code,
        "verification_uri": device.verification_uri,
        "verification_uri_complete": device.verification_uri_complete,
        "expires_at": device.expires_at,
    })
}

/// Problems as JSON.
pub fn problems_json(problems: &[Problem]) -> Value {
    problems
        .iter()
        .map(|problem| {
            json!({
                "field": problem.field,
                "severity": match problem.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "message": problem.message,
                "mend": problem.mend,
            })
        })
        .collect()
}

/// Problems for a reader, two lines each.
pub fn problems_text(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let (label, style) = match problem.severity {
            Severity::Error => ("error  ", BAD),
            Severity::Warning => ("warning", WARN),
        };
        let field = if problem.field.is_empty() {
            String::new()
        } else {
            format!("{}: ", bold(&printable(&problem.field)))
        };
        let _ = writeln!(
            text,
            "  {} {field}{}",
            styled(style, label),
            printable(&problem.message)
        );
        if !problem.mend.is_empty() {
            let _ = writeln!(text, "          {}", printable(&problem.mend));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenwell::Renewal;

    fn status(state: ConnectionState) -> Status {
        Status {
            state,
            expires_at: None,
            refreshable: false,
            refresh_expires_at: None,
            scope: vec![],
            authorized_at: None,
            last_renewal: None,
            next_retry_at: None,
            warnings: vec![],
        }
    }

    fn shop() -> Subject {
        Subject::new(&"shop".parse().unwrap(), None, "")
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_distance_is_told_in_the_unit_that_fits() {
        for (at, text) in [
            (1_000_000, "now"),
            (1_000_001, "in 1 second"),
            (999_970, "30 seconds ago"),
            (1_000_119, "in 119 seconds"),
            (1_000_120, "in 2 minutes"),
            (1_000_000 + 7_200, "in 2 hours"),
            (1_000_000 - 3 * 86_400, "3 days ago"),
        ] {
            assert_eq!(relative(at, 1_000_000), text);
        }
    }

    #[test]
    fn a_time_is_written_in_utc_with_its_distance() {
        assert_eq!(
            instant(1_763_794_184, 1_763_790_584),
            "2025-11-22T06:49:44Z (in 60 minutes)"
        );
    }

    #[test]
    fn a_time_beyond_the_calendar_is_told_as_a_number() {
        assert!(instant(u64::MAX, 0).starts_with("Unix second 18446744073709551615 (in "));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row([
            "a-long-name".to_owned().into(),
            state_cell(&ConnectionState::Authorized),
        ]);
        table.row([
            "b".to_owned().into(),
            state_cell(&ConnectionState::NotAuthorized),
        ]);
        assert_eq!(
            plain(&table.render()),
            "NAME         STATE\na-long-name  authorized\nb            not authorized\n"
        );
    }

    #[test]
    fn status_as_json_has_the_names_of_the_design() {
        let mut authorized = status(ConnectionState::Authorized);
        authorized.expires_at = Some(90);
        authorized.refreshable = true;
        authorized.scope = vec!["a".into(), "b".into()];
        authorized.authorized_at = Some(10);
        authorized.last_renewal = Some(Renewal {
            at: 30,
            reason: RenewalReason::Early,
        });
        assert_eq!(
            status_json(&shop(), &authorized),
            json!({
                "name": "shop",
                "state": "authorized",
                "expires_at": 90,
                "refreshable": true,
                "refresh_expires_at": null,
                "scope": "a b",
                "authorized_at": 10,
                "last_renewal": {"at": 30, "reason": "early"},
                "next_retry_at": null,
                "warnings": [],
            })
        );
    }

    #[test]
    fn a_failed_status_tells_the_error_as_an_error_would() {
        let failed = status(ConnectionState::Error(tokenwell::ConnectionError {
            kind: tokenwell::ErrorKind::Forbidden,
            message: "no".into(),
            problems: Vec::new(),
            server_error: None,
            retry_at: None,
            violation: None,
            storage: None,
        }));
        let value = status_json(&shop(), &failed);
        assert_eq!(value["state"], "error");
        assert_eq!(value["error"]["kind"], "forbidden");
    }

    #[test]
    fn a_status_for_a_reader_tells_times_and_why_it_renewed() {
        let mut authorized = status(ConnectionState::Authorized);
        authorized.expires_at = Some(3_600);
        authorized.refreshable = true;
        authorized.last_renewal = Some(Renewal {
            at: 0,
            reason: RenewalReason::Rejected,
        });
        assert_eq!(
            plain(&status_text(&shop(), &authorized, 0)),
            "shop: authorized\n\
             \x20 expires       1970-01-01T01:00:00Z (in 60 minutes)\n\
             \x20 renewable     yes\n\
             \x20 last renewal  1970-01-01T00:00:00Z (now): a resource server refused the token\n"
        );
    }

    #[test]
    fn a_token_as_json_has_the_names_of_the_design() {
        let token = Token {
            access_token: "at".into(),
            token_type: "Bearer".into(),
            expires_at: Some(5),
            fresh_until: Some(4),
            scope: vec!["a".into(), "b".into()],
            refreshable: true,
        };
        assert_eq!(
            token_json(&token),
            json!({"access_token": "at", "token_type": "Bearer", "expires_at": 5, "scope": "a b", "refreshable": true})
        );
    }

    #[test]
    fn a_token_told_to_a_reader_does_not_show_it() {
        let token = Token {
            access_token: "very-secret".into(),
            token_type: "Bearer".into(),
            expires_at: Some(5),
            fresh_until: None,
            scope: vec![],
            refreshable: true,
        };
        assert!(!token_text(&shop(), &token, 0).contains("very-secret"));
    }
}
