//! Events as a log of JSON lines that rotates itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::contract::Event;
use crate::events::EventSink;
use crate::files;

/// How many events may wait to be written. A renewal takes a request over the
/// network, writing what it tells a few microseconds: so many wait only where
/// the disk has stopped.
const QUEUE: usize = 1024;

/// How long the last handle waits for what it was told to be written.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// When an [`AuditLog`] begins a new file, and how many it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// The size that no file exceeds by more than what several processes write
    /// at the same instant, in bytes; 10 MiB by default.
    pub max_bytes: u64,
    /// How many earlier files are kept, beside the one that is written; 5 by
    /// default. The latest is `FILE.1`.
    pub kept_files: u32,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            max_bytes: 10 << 20,
            kept_files: 5,
        }
    }
}

/// A file that every event is appended to as one line, a JSON object:
///
/// ```json
/// {"time":"2026-11-25T11:40:00Z","connection":"shop","kind":"renewed","message":"a token was obtained because …","details":{"reason":"early"}}
/// ```
///
/// `time` is as RFC 3339 has it, in UTC. `details` holds texts by name. A file
/// is created for its owner alone (0600); one that is there keeps its mode.
///
/// Any number of processes may append to one file: each line is one write at the
/// end, and the files are renamed under a lock (`FILE.lock`), once the size is
/// reached: `FILE` to `FILE.1`, that to `FILE.2`, and so on. What is no regular
/// file, such as `/dev/stderr` or a symbolic link, is not renamed.
///
/// A call is never held up by the disk: events go into a queue, which a thread
/// writes. If it is full, because the disk has stopped, or if a line cannot be
/// written, the event is lost; so many are counted ([`AuditLog::lost`]), and told
/// in a line of the kind `audit-events-lost` as soon as one can be written again.
/// The queue dies with the process: who ends one lets the last handle go, which
/// waits for up to five seconds, or calls [`AuditLog::flush`]. (Whatever happens
/// to a connection is in its [history](crate::Connection::history) as well,
/// which is stored with its tokens.)
///
/// ```no_run
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tokenwell::{AuditLog, AuditOptions, Host};
///
/// let audit = AuditLog::open("/var/log/platform/audit.jsonl", AuditOptions::default())?;
/// let host = Host::in_directory("connections").events(audit.clone()).build()?;
/// # let _ = host;
/// # Ok(())
/// # }
/// ```
///
/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct AuditLog {
    writer: Arc<Writer>,
}

/// What the handles share. Dropped with the last, it ends the thread.
struct Writer {
    queue: Option<SyncSender<Message>>,
    ended: Mutex<Receiver<()>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    lost: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl State {
    fn fail(&self, failure: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

enum Message {
    Told(Event),
    Flush(SyncSender<()>),
}

impl AuditLog {
    /// Opens the file, which is created where there is none; its directory has
    /// to be there.
    ///
    /// # Errors
    /// The file cannot be appended to.
    pub fn open(path: impl Into<PathBuf>, options: AuditOptions) -> io::Result<Self> {
        let log = LogFile::open(path.into(), options)?;
        let (queue, messages) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(1);
        let state = Arc::new(State::default());
        let writing = Arc::clone(&state);
        thread::Builder::new()
            .name("tokenwell-audit".to_owned())
            .spawn(move || {
                write_all(log, &messages, &writing);
                // The last handle may have stopped waiting.
                let _ = end.send(());
            })?;
        Ok(Self {
            writer: Arc::new(Writer {
                queue: Some(queue),
                ended: Mutex::new(ended),
                state,
            }),
        })
    }

    /// Waits until everything told so far is written or lost, for at most so
    /// long; `false` where that was not long enough. It blocks its thread.
    pub fn flush(&self, at_most: Duration) -> bool {
        let begun = Instant::now();
        let left = || at_most.saturating_sub(begun.elapsed());
        let (done, all_done) = sync_channel(1);
        let Some(queue) = &self.writer.queue else {
            return true;
        };
        let mut message = Message::Flush(done);
        // A channel of the standard library cannot wait for room and for a time.
        loop {
            match queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if !left().is_zero() => {
                    message = back;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return false,
            }
        }
        all_done.recv_timeout(left()).is_ok()
    }

    /// How many events were not written.
    pub fn lost(&self) -> u64 {
        self.writer.state.lost.load(Ordering::Acquire)
    }

    /// The last failure to write or to rotate, in one sentence.
    pub fn failure(&self) -> Option<String> {
        let failure = self.writer.state.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for AuditLog {
    fn emit(&self, event: Event) {
        let sent = match &self.writer.queue {
            Some(queue) => queue.try_send(Message::Told(event)),
            None => return,
        };
        if sent.is_err() {
            self.writer.state.lost.fetch_add(1, Ordering::AcqRel);
            let failure = "the queue is full: the file cannot be written as fast as things happen";
            self.writer.state.fail(failure.to_owned());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let ended = self.ended.get_mut();
        let ended = ended.unwrap_or_else(PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LAST_WAIT) {
            // The disk has stopped. The thread ends with the process.
        }
    }
}

/// Writes what comes, until no more can come.
fn write_all(mut log: LogFile, messages: &Receiver<Message>, state: &State) {
    let mut told_lost = 0;
    for message in messages {
        let event = match message {
            Message::Told(event) => event,
            Message::Flush(done) => {
                // Whoever waited may have stopped.
                let _ = done.send(());
                continue;
            }
        };
        let lost = state.lost.load(Ordering::Acquire);
        let written = if lost > told_lost {
            let told = log.append(&line(&events_lost(lost - told_lost)));
            told.and_then(|()| {
                told_lost = lost;
                log.append(&line(&event))
            })
        } else {
            log.append(&line(&event))
        };
        if let Err(error) = written {
            state.lost.fetch_add(1, Ordering::AcqRel);
            state.fail(format!("cannot write {}: {error}", log.path.display()));
        }
        if let Some(error) = log.rotation_failure.take() {
            state.fail(format!("cannot rotate {}: {error}", log.path.display()));
        }
    }
}

/// What is told of events that were not written.
fn events_lost(count: u64) -> Event {
    let message = format!("{count} earlier events could not be written");
    let mut event = Event::now("", "audit-events-lost", message);
    event.detail("count", &count.to_string());
    event
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    connection: &'a str,
    kind: &'a str,
    message: &'a str,
    details: BTreeMap<&'a str, &'a str>,
}

/// An event as a line.
fn line(event: &Event) -> Vec<u8> {
    let seconds = i64::try_from(event.at).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let details = event.details.iter();
    let line = Line {
        time: time.to_string(),
        connection: &event.connection,
        kind: &event.kind,
        message: &event.message,
        details: details
            .map(|d| (d.name.as_str(), d.value.as_str()))
            .collect(),
    };
    // Texts and maps of texts are always JSON.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The file, opened anew for each line: other processes may have renamed it.
struct LogFile {
    path: PathBuf,
    options: AuditOptions,
    /// Whether the last line has no end, because the disk was full.
    torn: bool,
    rotation_failure: Option<io::Error>,
}

impl LogFile {
    fn open(path: PathBuf, options: AuditOptions) -> io::Result<Self> {
        let mut file = open_to_append(&path)?;
        Ok(Self {
            torn: ends_within_a_line(&mut file),
            path,
            options,
            rotation_failure: None,
        })
    }

    /// Appends a line in one write, so that it is never mixed with another's.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = self.rotate_before(line.len()) {
            // Better a file that is too long than an event that is lost.
            self.rotation_failure = Some(error);
        }
        let mut file = open_to_append(&self.path)?;
        let line = if self.torn {
            [b"\n", line].concat()
        } else {
            line.to_vec()
        };
        let written = file.write(&line)?;
        self.torn = written < line.len() && (self.torn || written > 0);
        if written < line.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Begins a new file where this one would become too long.
    fn rotate_before(&self, upcoming: usize) -> io::Result<()> {
        if !self.is_full(upcoming)? {
            return Ok(());
        }
        let _lock = files::lock(&self.sibling("lock"))?;
        // Another process may have done it meanwhile.
        if !self.is_full(upcoming)? {
            return Ok(());
        }
        let kept = self.options.kept_files;
        if kept == 0 {
            return files::remove_if_there(&self.path);
        }
        for number in (1..kept).rev() {
            rename_if_there(&self.sibling(number), &self.sibling(number + 1))?;
        }
        rename_if_there(&self.path, &self.sibling(1))
    }

    fn is_full(&self, upcoming: usize) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_file() && found.len() > 0 => {
                let upcoming = u64::try_from(upcoming).unwrap_or(u64::MAX);
                Ok(found.len().saturating_add(upcoming) > self.options.max_bytes)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sibling(&self, extension: impl ToString) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(extension.to_string());
        path.into()
    }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    files::private_file().append(true).create(true).open(path)
}

/// Whether a process that wrote to the file before died within a line.
fn ends_within_a_line(file: &mut File) -> bool {
    let mut last = [0];
    // What cannot be sought in has no end.
    let found = file
        .seek(SeekFrom::End(-1))
        .and_then(|_| file.read_exact(&mut last));
    found.is_ok() && last != *b"\n"
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::contract::Parameter;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn event(connection: &str, message: &str) -> Event {
        Event {
            at: 1_764_070_800,
            connection: connection.to_owned(),
            kind: "renewed".to_owned(),
            message: message.to_owned(),
            details: vec![Parameter {
                name: "reason".to_owned(),
                value: "early".to_owned(),
            }],
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    fn small(max_bytes: u64, kept_files: u32) -> AuditOptions {
        AuditOptions {
            max_bytes,
            kept_files,
        }
    }

    #[test]
    fn an_event_is_one_json_object_on_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let log = AuditLog::open(&path, AuditOptions::default()).unwrap();
        log.emit(event("shop", "two\nlines"));
        assert!(log.flush(PATIENCE));
        assert_eq!(
            lines(&path),
            [json!({
                "time": "2025-11-25T11:40:00Z",
                "connection": "shop",
                "kind": "renewed",
                "message": "two\nlines",
                "details": {"reason": "early"},
            })]
        );
        assert_eq!(log.lost(), 0);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_its_last() {
        let mut late = event("shop", "");
        late.at = u64::MAX;
        let line: Value = serde_json::from_slice(&line(&late)).unwrap();
        assert!(line["time"].as_str().unwrap().starts_with("9999-"));
    }

    #[test]
    fn the_last_handle_leaves_everything_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let log = AuditLog::open(&path, AuditOptions::default()).unwrap();
        let other = log.clone();
        for number in 0..100 {
            log.emit(event("shop", &number.to_string()));
        }
        drop(log);
        drop(other);
        assert_eq!(lines(&path).len(), 100);
    }

    #[cfg(unix)]
    #[test]
    fn the_log_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        drop(AuditLog::open(&path, AuditOptions::default()).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none").join("audit.jsonl");
        assert!(AuditLog::open(path, AuditOptions::default()).is_err());
    }

    #[test]
    fn so_many_files_of_that_size_are_kept_the_latest_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let size = line(&event("shop", "00")).len() as u64;
        // Two lines fit into a file.
        let log = AuditLog::open(&path, small(2 * size + 1, 2)).unwrap();
        for number in 10..19 {
            log.emit(event("shop", &number.to_string()));
        }
        assert!(log.flush(PATIENCE));
        let messages = |name: &str| -> Vec<String> {
            let lines = lines(&directory.path().join(name));
            let messages = lines.iter().map(|line| line["message"].as_str().unwrap());
            messages.map(str::to_owned).collect()
        };
        assert_eq!(messages("audit.jsonl"), ["18"]);
        assert_eq!(messages("audit.jsonl.1"), ["16", "17"]);
        assert_eq!(messages("audit.jsonl.2"), ["14", "15"]);
        assert!(!directory.path().join("audit.jsonl.3").exists());
        assert_eq!(log.failure(), None);
    }

    #[test]
    fn several_writers_lose_no_line_and_mix_none_while_they_rotate() {
        const WRITERS: usize = 4;
        const EVENTS: usize = 200;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let path = &path;
                scope.spawn(move || {
                    // Each as in a process of its own.
                    let log = AuditLog::open(path, small(4_096, 1_000)).unwrap();
                    for number in 0..EVENTS {
                        log.emit(event(&writer.to_string(), &number.to_string()));
                    }
                    assert!(log.flush(PATIENCE));
                    assert_eq!((log.lost(), log.failure()), (0, None));
                });
            }
        });
        let mut found = Vec::new();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "lock") {
                found.extend(lines(&path));
            }
        }
        for writer in 0..WRITERS {
            let writer = writer.to_string();
            let of_writer = found.iter().filter(|line| line["connection"] == *writer);
            let mut numbers: Vec<usize> = of_writer
                .map(|line| line["message"].as_str().unwrap().parse().unwrap())
                .collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
        }
        assert!(directory.path().join("audit.jsonl.5").exists());
    }

    #[test]
    fn a_line_that_was_cut_short_does_not_take_the_next_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        fs::write(&path, "{\"time\":\"2025").unwrap();
        let log = AuditLog::open(&path, AuditOptions::default()).unwrap();
        log.emit(event("shop", "whole"));
        assert!(log.flush(PATIENCE));
        let text = fs::read_to_string(&path).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn, "{\"time\":\"2025");
        let whole: Value = serde_json::from_str(whole).unwrap();
        assert_eq!(whole["message"], "whole");
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told_once_it_can_be_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let log = AuditLog::open(&path, AuditOptions::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        log.emit(event("shop", "lost"));
        log.emit(event("shop", "lost too"));
        assert!(log.flush(PATIENCE));
        assert_eq!(log.lost(), 2);
        assert!(log.failure().unwrap().contains("audit.jsonl"));

        fs::remove_dir(&path).unwrap();
        log.emit(event("shop", "written"));
        assert!(log.flush(PATIENCE));
        let lines = lines(&path);
        assert_eq!(lines[0]["kind"], "audit-events-lost");
        assert_eq!(lines[0]["details"]["count"], "2");
        assert_eq!(lines[1]["message"], "written");
        assert_eq!(lines.len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_writer_that_has_stopped_holds_no_caller_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        // The next line is to be rotated under a lock that somebody else holds.
        let log = AuditLog::open(&path, small(1, 1)).unwrap();
        log.emit(event("shop", "first"));
        assert!(log.flush(PATIENCE));
        let held = files::lock(&directory.path().join("audit.jsonl.lock")).unwrap();
        let told = QUEUE as u64 * 3;
        for _ in 0..told {
            log.emit(event("shop", "more"));
        }
        let lost = log.lost();
        assert!(lost > 0 && lost < told, "{lost}");
        drop(held);
        assert!(log.flush(PATIENCE));
    }
}
