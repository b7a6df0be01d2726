//! `status --watch`: a table on the terminal that follows the time, or a line
//! for each change.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anstream::ColorChoice;
use serde_json::{Value, json};
use tokenwell::{ConnectionState, Host, Status};

use super::Session;
use super::commands::{Standing, standing};
use super::document::{ConnectionName, Subject};
use super::failure::{Failure, Kind};
use super::output::{self, Cell};

/// The size of a terminal that does not tell its own.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// The fewest columns for which times are written out.
const WIDE: usize = 100;

/// The narrowest that the names may become.
const NARROWEST_NAME: usize = 8;

/// A connection as it was found.
struct Seen {
    subject: Subject,
    found: Result<Status, Failure>,
}

impl Seen {
    fn name(&self) -> &str {
        self.subject.full_name()
    }

    /// Whether nothing has happened between two looks. Times that are told as a
    /// distance from now are none of it.
    fn is_like(&self, other: &Self) -> bool {
        match (&self.found, &other.found) {
            (Ok(this), Ok(other)) => this == other,
            (Err(this), Err(other)) => (this.kind, &this.message) == (other.kind, &other.message),
            _ => false,
        }
    }

    fn is_well(&self) -> bool {
        matches!(&self.found, Ok(status) if status.state == ConnectionState::Authorized)
    }

    fn state(&self) -> Cell {
        match &self.found {
            Ok(status) => output::state_cell(&status.state),
            Err(_) => output::trouble_cell(),
        }
    }

    /// What is wrong, in one sentence.
    fn trouble(&self) -> Option<String> {
        let failure = match &self.found {
            Err(failure) => return Some(failure.message.clone()),
            Ok(status) => match &status.state {
                ConnectionState::Error(error) => {
                    Failure::of(error.clone().into(), Some(&self.subject))
                }
                ConnectionState::NotConfigured(problems) => {
                    let problem = problems.first()?;
                    return Some(format!("{}: {}", problem.field, problem.message));
                }
                ConnectionState::NotAuthorized | ConnectionState::Authorized => return None,
            },
        };
        Some(failure.message)
    }
}

/// Looks at connections so often, until it is told to end.
///
/// # Errors
/// A named connection is not there, the directory cannot be read, or the output
/// not written.
pub async fn run(
    session: &Session,
    names: &[ConnectionName],
    interval: Duration,
) -> Result<u8, Failure> {
    let host = session.host()?;
    // Before the terminal is taken over: a password may be asked for.
    let first = look(session, &host, names).await?;
    for seen in &first {
        if !names.is_empty()
            && let Err(failure) = &seen.found
            && failure.kind == Kind::NotConfigured
        {
            return Err(Failure::not_configured(failure.message.clone())
                .mend(session.directory.shows_all()));
        }
    }
    let is_live = !session.json
        && io::stdout().is_terminal()
        && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
    let mut stop = Stop::new().map_err(|error| Failure::internal(error.to_string()))?;
    let look = async || look(session, &host, names).await;
    if is_live {
        let screen = Screen::enter().map_err(|error| Failure::standard_output(&error))?;
        tokio::select! {
            ended = live(session, &screen, first, look, interval) => ended,
            code = stop.told() => Ok(code),
        }
    } else {
        tokio::select! {
            ended = lines(session, first, look, interval) => ended,
            code = stop.told() => Ok(code),
        }
    }
}

async fn look(
    session: &Session,
    host: &Host,
    names: &[ConnectionName],
) -> Result<Vec<Seen>, Failure> {
    let all;
    let names = if names.is_empty() {
        all = session.directory.names(session.profile.as_ref())?;
        &all
    } else {
        names
    };
    let mut seen = Vec::new();
    for name in names {
        seen.push(match standing(session, host, name).await {
            Ok(Standing {
                subject, status, ..
            }) => Seen {
                subject,
                found: Ok(status),
            },
            Err(failure) => Seen {
                subject: session.subject(name),
                found: Err(failure),
            },
        });
    }
    Ok(seen)
}

// ---- a line for each change -----------------------------------------------

async fn lines(
    session: &Session,
    first: Vec<Seen>,
    look: impl AsyncFn() -> Result<Vec<Seen>, Failure>,
    interval: Duration,
) -> Result<u8, Failure> {
    let mut before: Vec<Seen> = Vec::new();
    let mut now = first;
    loop {
        let at = output::now();
        for seen in &now {
            let earlier = before.iter().find(|earlier| earlier.name() == seen.name());
            if !earlier.is_some_and(|earlier| earlier.is_like(seen)) {
                print_change(session, at, seen.name(), Some(seen))?;
            }
        }
        for gone in &before {
            if now.iter().all(|seen| seen.name() != gone.name()) {
                print_change(session, at, gone.name(), None)?;
            }
        }
        before = now;
        tokio::time::sleep(interval).await;
        now = look().await?;
    }
}

fn print_change(
    session: &Session,
    at: u64,
    name: &str,
    seen: Option<&Seen>,
) -> Result<(), Failure> {
    if session.json {
        output::print_json_line(&change_json(at, name, seen))
    } else {
        output::print(&change_text(at, name, seen))
    }
}

/// A change as JSON: what `status --json` says, and when it was seen.
fn change_json(at: u64, name: &str, seen: Option<&Seen>) -> Value {
    let mut change = match seen {
        None => json!({"name": name, "state": "deleted"}),
        Some(seen) => match &seen.found {
            Ok(status) => output::status_json(&seen.subject, status),
            Err(failure) => json!({"name": name, "state": "error", "error": failure.to_json()}),
        },
    };
    if let Some(change) = change.as_object_mut() {
        change.insert("at".into(), at.into());
    }
    change
}

/// The same in a line for a reader, with times that stay true.
fn change_text(at: u64, name: &str, seen: Option<&Seen>) -> String {
    let mut line = format!("{}  {}  ", output::time(at), output::bold(name));
    let Some(seen) = seen else {
        line.push_str("deleted\n");
        return line;
    };
    line.push_str(&seen.state().styled());
    if let Ok(status) = &seen.found {
        if let Some(at) = status.expires_at {
            let _ = write!(line, "  expires {}", output::time(at));
        }
        if let Some(renewal) = status.last_renewal {
            let reason = output::reason(renewal.reason).as_str();
            let _ = write!(line, "  renewed {} ({reason})", output::time(renewal.at));
        }
        if let Some(at) = status.next_retry_at {
            let _ = write!(line, "  next try {}", output::time(at));
        }
    }
    if let Some(trouble) = seen.trouble() {
        let _ = write!(line, "  {}", output::printable(&trouble));
    }
    line.push('\n');
    line
}

// ---- the table --------------------------------------------------------------

async fn live(
    session: &Session,
    screen: &Screen,
    first: Vec<Seen>,
    look: impl AsyncFn() -> Result<Vec<Seen>, Failure>,
    interval: Duration,
) -> Result<u8, Failure> {
    let place = session.directory.path().display().to_string();
    let mut resized = Resized::new();
    let mut seen = first;
    loop {
        let looked = Instant::now();
        loop {
            let frame = Frame {
                place: &place,
                seen: &seen,
                now: output::now(),
                interval,
                size: size(),
            };
            screen
                .draw(&frame.lines(), frame.size.1)
                .map_err(|error| Failure::standard_output(&error))?;
            let left = interval.saturating_sub(looked.elapsed());
            tokio::select! {
                // The distances are told to the second.
                () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {}
                () = resized.told() => {}
            }
            if looked.elapsed() >= interval {
                break;
            }
        }
        seen = look().await?;
    }
}

/// The size of the terminal, in columns and rows.
fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(USUAL_SIZE, |(width, height)| {
        (width.0.into(), height.0.into())
    })
}

/// What the terminal shows at one instant.
struct Frame<'a> {
    place: &'a str,
    seen: &'a [Seen],
    now: u64,
    interval: Duration,
    size: (usize, usize),
}

impl Frame<'_> {
    /// The lines, none longer than the terminal is wide, and no more than it has
    /// rows. Where there is no room for all, those in trouble are shown.
    fn lines(&self) -> Vec<String> {
        let (width, height) = self.size;
        // Above: title, a gap, the headings. Below: a gap, the sum.
        let room = height.saturating_sub(5);
        let mut rows: Vec<(&Seen, usize)> = self.seen.iter().map(|s| (s, rows_of(s))).collect();
        let needed: usize = rows.iter().map(|(_, rows)| rows).sum();
        let mut left_out = 0;
        if needed > room {
            // Those in trouble first, otherwise in their order.
            rows.sort_by_key(|(seen, _)| seen.is_well());
            let mut used = 1;
            let fit = rows.iter().take_while(|(_, rows)| {
                used += rows;
                used <= room
            });
            let fit = fit.count();
            left_out = rows.len() - fit;
            rows.truncate(fit);
        }
        let mut lines = vec![self.title(width), String::new()];
        lines.extend(self.table(&rows, width));
        if left_out > 0 {
            lines.push(output::dim(&cut(&format!("… and {left_out} more"), width)));
        }
        lines.push(String::new());
        lines.push(output::dim(&cut(&self.sum(), width)));
        lines.truncate(height);
        lines
    }

    fn title(&self, width: usize) -> String {
        let time = cut(&output::time(self.now), width);
        let place = cut(self.place, width.saturating_sub(time.chars().count() + 2));
        let gap = width.saturating_sub(place.chars().count() + time.chars().count());
        format!("{place}{}{}", " ".repeat(gap), output::dim(&time))
    }

    fn table(&self, rows: &[(&Seen, usize)], width: usize) -> Vec<String> {
        let is_wide = width >= WIDE;
        let headings = ["NAME", "STATE", "EXPIRES", "RENEWED", "NEXT TRY"];
        let cells: Vec<[Cell; 5]> = rows
            .iter()
            .map(|(seen, _)| self.cells(seen, is_wide))
            .collect();
        let mut widths = headings.map(|heading| heading.chars().count());
        for cells in &cells {
            for (widest, cell) in widths.iter_mut().zip(cells) {
                *widest = (*widest).max(cell.text().chars().count());
            }
        }
        // The names give way first, then whatever is at the edge.
        let whole = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        let excess = whole.saturating_sub(width);
        let narrowed = widths[0].saturating_sub(excess).max(NARROWEST_NAME);
        widths[0] = widths[0].min(narrowed);
        let mut lines = Vec::new();
        let heading = headings.map(Cell::bold);
        lines.push(row(&heading, &widths, width));
        for ((seen, _), cells) in rows.iter().zip(&cells) {
            lines.push(row(cells, &widths, width));
            if let Some(trouble) = seen.trouble() {
                let trouble = format!("  {}", output::printable(&trouble));
                lines.push(output::dim(&cut(&trouble, width)));
            }
        }
        lines
    }

    fn cells(&self, seen: &Seen, is_wide: bool) -> [Cell; 5] {
        let distance = |at: u64| {
            if is_wide {
                output::relative(at, self.now)
            } else {
                short(at, self.now)
            }
        };
        let none = || "-".to_owned();
        let status = seen.found.as_ref().ok();
        let expires = status.and_then(|status| status.expires_at);
        let renewal = status.and_then(|status| status.last_renewal);
        let renewed = renewal.map(|renewal| {
            let reason = output::reason(renewal.reason).as_str().replace('_', " ");
            format!("{}, {reason}", distance(renewal.at))
        });
        let retry = status.and_then(|status| status.next_retry_at);
        let retry = retry.map(|at| {
            if at > self.now {
                distance(at)
            } else {
                // The next call for a token tries it.
                "when asked".to_owned()
            }
        });
        [
            seen.name().to_owned().into(),
            seen.state(),
            expires.map_or_else(none, distance).into(),
            renewed.unwrap_or_else(none).into(),
            retry.unwrap_or_else(none).into(),
        ]
    }

    fn sum(&self) -> String {
        let well = self.seen.iter().filter(|seen| seen.is_well()).count();
        let every = match self.interval.as_secs() {
            1 => "every second".to_owned(),
            seconds => format!("every {seconds} seconds"),
        };
        format!(
            "{well} of {} authorized · looked at {every} · Ctrl-C ends",
            self.seen.len()
        )
    }
}

/// How many rows a connection takes.
fn rows_of(seen: &Seen) -> usize {
    1 + usize::from(seen.trouble().is_some())
}

fn row(cells: &[Cell; 5], widths: &[usize; 5], width: usize) -> String {
    let mut line = String::new();
    let mut left = width;
    for (cell, column) in cells.iter().zip(widths) {
        if left == 0 {
            break;
        }
        let text = cut(cell.text(), (*column).min(left));
        left -= text.chars().count();
        let padding = (column + 2 - text.chars().count()).min(left);
        left -= padding;
        line.push_str(&cell.styled_as(&text));
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.truncate(line.trim_end_matches(' ').len());
    line
}

/// A text in no more than so many columns.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// How far a time is from now, in few letters: `in 59m`, `3d ago`.
fn short(at: u64, now: u64) -> String {
    let distance = at.abs_diff(now);
    if distance == 0 {
        return "now".to_owned();
    }
    let (size, unit) = [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(size, _)| distance >= 2 * size)
        .unwrap_or((1, 's'));
    let count = distance / size;
    if at > now {
        format!("in {count}{unit}")
    } else {
        format!("{count}{unit} ago")
    }
}

/// The terminal's other screen, which is left as it was found when this is
/// dropped.
struct Screen {
    has_colours: bool,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        // On Windows this has the terminal understand what follows.
        let choice = anstream::AutoStream::choice(&io::stdout());
        let mut out = io::stdout().lock();
        // The other screen; no cursor; no line that is continued on the next.
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        out.flush()?;
        Ok(Self {
            has_colours: choice != ColorChoice::Never,
        })
    }

    /// Puts lines in the place of those before, all at once where the terminal
    /// can (synchronized output), without a blank screen in between.
    fn draw(&self, lines: &[String], height: usize) -> io::Result<()> {
        let mut frame = String::from("\x1b[?2026h\x1b[H");
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                frame.push_str("\r\n");
            }
            // Before the text: behind a full line the cursor is still on its
            // last letter.
            frame.push_str("\x1b[K");
            if self.has_colours {
                frame.push_str(line);
            } else {
                frame.push_str(&anstream::adapter::strip_str(line).to_string());
            }
        }
        if lines.len() < height {
            frame.push_str("\r\n\x1b[J");
        }
        frame.push_str("\x1b[?2026l");
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // Where the terminal has gone, there is nothing to restore.
        let _ = out
            .write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l")
            .and_then(|()| out.flush());
    }
}

/// The signals that end it.
struct Stop {
    #[cfg(unix)]
    signals: [(tokio::signal::unix::Signal, u8); 3],
}

impl Stop {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            signals: [
                // Ctrl-C is how it is meant to end; the others, as shells tell them.
                (signal(SignalKind::interrupt())?, 0),
                (signal(SignalKind::terminate())?, 128 + 15),
                (signal(SignalKind::hangup())?, 128 + 1),
            ],
        })
    }

    /// Waits for one, and gives the exit code.
    #[cfg(unix)]
    async fn told(&mut self) -> u8 {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => *a,
            _ = terminate.recv() => *b,
            _ = hangup.recv() => *c,
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn told(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            // It cannot be waited for; the system ends the process itself.
            std::future::pending::<()>().await;
        }
        0
    }
}

/// Tells when the terminal has another size.
struct Resized {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Resized {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            signal: {
                use tokio::signal::unix::{SignalKind, signal};
                signal(SignalKind::window_change()).ok()
            },
        }
    }

    async fn told(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal {
            signal.recv().await;
            return;
        }
        // The next frame finds out.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokenwell::{ConnectionError, ErrorKind, Renewal, RenewalReason};

    use super::*;

    const NOW: u64 = 1_764_070_800;

    fn seen(name: &str, status: Status) -> Seen {
        Seen {
            subject: Subject::new(&name.parse().unwrap(), None, ""),
            found: Ok(status),
        }
    }

    fn authorized() -> Status {
        Status {
            state: ConnectionState::Authorized,
            expires_at: Some(NOW + 3_540),
            refreshable: true,
            refresh_expires_at: None,
            scope: Vec::new(),
            authorized_at: None,
            last_renewal: Some(Renewal {
                at: NOW - 300,
                reason: RenewalReason::MinValidity,
            }),
            next_retry_at: None,
            warnings: Vec::new(),
        }
    }

    fn failed() -> Status {
        Status {
            state: ConnectionState::Error(ConnectionError {
                kind: ErrorKind::Unavailable,
                message: "https://as.example/token does not answer, and that for a long time now, as it seems"
                    .to_owned(),
                problems: Vec::new(),
                server_error: None,
                retry_at: Some(NOW + 8),
                violation: None,
                storage: None,
            }),
            next_retry_at: Some(NOW + 8),
            ..authorized()
        }
    }

    fn frame(seen: &[Seen], size: (usize, usize)) -> Vec<String> {
        let frame = Frame {
            place: "/home/user/.config/tokenwell",
            seen,
            now: NOW,
            interval: Duration::from_secs(2),
            size,
        };
        let lines = frame.lines();
        let plain = |line: &String| anstream::adapter::strip_str(line).to_string();
        lines.iter().map(plain).collect()
    }

    #[test]
    fn a_narrow_terminal_has_short_times_and_a_wide_one_has_words() {
        let seen = [seen("shop", authorized()), seen("crm", failed())];
        assert_eq!(
            frame(&seen, (80, 24)),
            [
                "/home/user/.config/tokenwell                                2025-11-25T11:40:00Z",
                "",
                "NAME  STATE       EXPIRES  RENEWED               NEXT TRY",
                "shop  authorized  in 59m   5m ago, min validity  -",
                "crm   error       in 59m   5m ago, min validity  in 8s",
                "  not available at the moment: https://as.example/token does not answer, and th…",
                "",
                "1 of 2 authorized · looked at every 2 seconds · Ctrl-C ends",
            ]
        );
        let wide = frame(&seen, (120, 24));
        assert_eq!(
            wide[3],
            "shop  authorized  in 59 minutes  5 minutes ago, min validity  -"
        );
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_and_there_are_no_more_than_fit() {
        let mut all: Vec<Seen> = (0..40)
            .map(|number| {
                seen(
                    &format!("a-connection-with-a-long-name-{number}"),
                    authorized(),
                )
            })
            .collect();
        all.push(seen("z", failed()));
        for size in [(80, 24), (120, 40), (40, 10), (10, 5), (1, 1), (0, 0)] {
            let lines = frame(&all, size);
            let widest = lines.iter().map(|line| line.chars().count()).max();
            assert!(widest.unwrap_or(0) <= size.0, "{size:?}: {lines:#?}");
            assert!(lines.len() <= size.1, "{size:?}");
        }
    }

    #[test]
    fn where_not_all_fit_those_in_trouble_are_shown() {
        let mut all: Vec<Seen> = (0..40)
            .map(|number| seen(&format!("c{number}"), authorized()))
            .collect();
        all.push(seen("z", failed()));
        let lines = frame(&all, (80, 12));
        assert!(lines[3].starts_with("z "), "{lines:#?}");
        assert!(
            lines.iter().any(|line| line == "… and 36 more"),
            "{lines:#?}"
        );
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn a_retry_that_is_due_waits_for_a_call() {
        let mut due = failed();
        due.next_retry_at = Some(NOW - 1);
        let lines = frame(&[seen("crm", due)], (80, 24));
        assert!(lines[3].ends_with("when asked"), "{lines:#?}");
    }

    #[test]
    fn a_change_in_a_line_tells_times_that_stay_true() {
        let crm = seen("crm", failed());
        let line = change_text(NOW, "crm", Some(&crm));
        assert_eq!(
            anstream::adapter::strip_str(&line).to_string(),
            "2025-11-25T11:40:00Z  crm  error  expires 2025-11-25T12:39:00Z  \
             renewed 2025-11-25T11:35:00Z (min_validity)  next try 2025-11-25T11:40:08Z  \
             not available at the moment: https://as.example/token does not answer, and that for a long time now, as it seems\n"
        );
        let gone = change_text(NOW, "crm", None);
        assert!(gone.ends_with("deleted\n"), "{gone}");
    }

    #[test]
    fn a_change_as_json_is_the_status_with_its_time() {
        let shop = seen("shop", authorized());
        let change = change_json(NOW, "shop", Some(&shop));
        assert_eq!(change["at"], NOW);
        assert_eq!(change["name"], "shop");
        assert_eq!(change["state"], "authorized");
        assert_eq!(change["last_renewal"]["reason"], "min_validity");
        let gone = change_json(NOW, "shop", None);
        assert_eq!(gone, json!({"name": "shop", "state": "deleted", "at": NOW}));
    }

    #[test]
    fn what_differs_only_in_how_far_away_it_is_is_no_change() {
        let mut later = failed();
        assert!(seen("crm", failed()).is_like(&seen("crm", failed())));
        later.next_retry_at = Some(NOW + 16);
        assert!(!seen("crm", failed()).is_like(&seen("crm", later)));
    }
}
