//! Files that hold secrets or tokens: private, written whole or not at all, and
//! locked against other processes.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for a lock that is held only for short writes. Whoever has
/// it for longer is stopped or stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates a directory, and those above it, that nobody else can look into.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// How files are opened that only the owner may read.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether what is written must survive a crash of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Durable,
    Volatile,
}

/// Puts a private file in place of whatever is there, so that a reader sees
/// either the old content or the new. The caller holds the lock that keeps
/// others from writing the same file.
pub(crate) fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".tmp");
    let temporary = directory.join(temporary_name);

    // What a writer that died has left behind.
    remove_if_there(&temporary)?;
    let written = (|| {
        let mut file = private_file().create_new(true).open(&temporary)?;
        file.write_all(content)?;
        if durability == Durability::Durable {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&temporary, path)
    })();
    if let Err(error) = written {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    if durability == Durability::Durable {
        sync_directory(directory)?;
    }
    Ok(())
}

/// Makes creations, renamings and deletions in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened, and renaming is durable.
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Locks a file, which is created where needed, against all other lockers, in
/// this process and in others. The lock ends when the file is dropped.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let file = private_file().create(true).truncate(false).open(path)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let mut pause = Duration::from_millis(1);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} is locked by another process", path.display()),
                ));
            }
        }
    }
}
