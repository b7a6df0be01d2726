//! What is typed or handed in beside the command: lines, secrets, passwords.
//! Without echo where it is a secret and there is a terminal.

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use super::failure::Failure;

/// One line of standard input.
pub fn line(what: &str) -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| {
        Failure::usage(format!("cannot read {what} from standard input: {error}"))
    })?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::usage(format!(
            "there is no {what} on standard input"
        ))),
        text => Ok(text.to_owned()),
    }
}

/// A secret: asked for on a terminal, else one line of standard input.
pub fn secret(what: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return line(what);
    }
    asked(what)
}

/// The same, but of standard input all there is, without the line end at its
/// close: a key in PEM has many lines.
pub fn whole_secret(what: &str) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return asked(what);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| {
        Failure::usage(format!("cannot read {what} from standard input: {error}"))
    })?;
    let without = text.strip_suffix('\n').unwrap_or(&text);
    let without = without.strip_suffix('\r').unwrap_or(without);
    if without.is_empty() {
        return Err(Failure::usage(format!(
            "there is no {what} on standard input"
        )));
    }
    Ok(without.to_owned())
}

fn asked(what: &str) -> Result<String, Failure> {
    match prompt(what) {
        Ok(text) if text.is_empty() => Err(Failure::usage(format!("the {what} is empty"))),
        Ok(text) => Ok(text),
        Err(error) => Err(Failure::usage(format!("cannot read {what}: {error}"))),
    }
}

/// Where a password comes from: a variable, a file, or the terminal.
pub struct Origin<'a> {
    pub what: &'a str,
    pub variable: &'a str,
    pub option: &'a str,
    pub file: Option<&'a Path>,
}

/// A password that has been set.
pub fn password(origin: &Origin<'_>) -> Result<String, Failure> {
    if let Some(given) = given_password(origin)? {
        return Ok(given);
    }
    prompt(origin.what).map_err(|error| missing(origin, &error))
}

/// A password that is set now: asked for twice.
pub fn new_password(origin: &Origin<'_>) -> Result<String, Failure> {
    if let Some(given) = given_password(origin)? {
        return Ok(given);
    }
    let failed = |error: io::Error| missing(origin, &error);
    let first = prompt(origin.what).map_err(failed)?;
    if first.is_empty() {
        return Err(Failure::usage(format!("the {} is empty", origin.what)));
    }
    let second = prompt(&format!("{} again", origin.what)).map_err(failed)?;
    if first != second {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(first)
}

/// The password that needs no asking; the file goes before the variable.
pub fn given_password(origin: &Origin<'_>) -> Result<Option<String>, Failure> {
    let text = match origin.file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::file("cannot read", path, &error))?,
        None => match std::env::var(origin.variable) {
            Ok(text) => text,
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::usage(format!(
                    "{} is not Unicode",
                    origin.variable
                )));
            }
        },
    };
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::usage(format!("the {} is empty", origin.what))
            .mend(format!("Set {} or {}.", origin.variable, origin.option))),
        text => Ok(Some(text.to_owned())),
    }
}

/// Asks on the terminal, wherever standard input comes from.
pub fn prompt(what: &str) -> io::Result<String> {
    rpassword::prompt_password(format!("{what}: ")).map_err(|error| match error.raw_os_error() {
        // ENXIO, "no such device or address": the process has no terminal.
        Some(6) if cfg!(unix) => {
            io::Error::new(error.kind(), "there is no terminal to ask for it on")
        }
        _ => error,
    })
}

fn missing(origin: &Origin<'_>, error: &io::Error) -> Failure {
    Failure::usage(format!("there is no {}: {error}", origin.what)).mend(format!(
        "Set {}, or name a file with {}.",
        origin.variable, origin.option
    ))
}
