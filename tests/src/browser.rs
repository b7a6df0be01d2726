//! The real browser: headless Chromium, driven by playwright-core.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::part::Part;
use crate::process::Process;
use crate::{Decision, workspace};

/// A browser with nobody signed in anywhere.
#[derive(Debug)]
pub struct Browser {
    executable: PathBuf,
}

/// The page that the user is left with.
#[derive(Clone, Debug, Deserialize)]
pub struct LandingPage {
    /// Its URL.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Its visible text.
    pub text: String,
    /// The headers it came with; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The URLs that the page wanted from other origins than its own.
    pub elsewhere: Vec<String>,
}

impl Browser {
    /// Finds the browser: the one that `CHROMIUM` names, else one on the path;
    /// absent where the machine is known to lack it.
    ///
    /// # Panics
    /// Where there is none, or playwright-core is not installed.
    pub fn find() -> Option<Self> {
        if Part::Node.is_lacking() || Part::Browser.is_lacking() {
            return None;
        }
        assert!(
            folder().join("node_modules/playwright-core").is_dir(),
            "npm's playwright-core is not installed: run `cargo xtask test`, or `npm ci` in {}",
            folder().display()
        );
        let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let executable = named.or_else(|| {
            ["chromium", "chromium-browser", "google-chrome"]
                .iter()
                .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
                .find(|candidate| candidate.is_file())
        });
        let executable = executable
            .expect("there is no Chromium: run `cargo xtask test`, or set CHROMIUM to its path");
        Some(Self { executable })
    }

    /// Opens an authorization URL of [`crate::OidcProvider`], takes the user's
    /// decision through its pages and follows the redirect.
    ///
    /// # Panics
    /// Where the pages lead nowhere.
    pub fn decide(&self, url: &str, decision: Decision, screenshot: Option<&Path>) -> LandingPage {
        let mut command = Command::new("node");
        command
            .arg("login.mjs")
            .current_dir(folder())
            .env("CHROMIUM", &self.executable);
        if decision == Decision::Deny {
            command.arg("--deny");
        }
        if let Some(path) = screenshot {
            command.arg("--screenshot").arg(path);
        }
        let ended = Process::start(command.arg(url)).wait();
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| {
            panic!(
                "the browser did not get through: {}\n{}",
                ended.status, ended.stderr
            )
        })
    }
}

fn folder() -> PathBuf {
    workspace().join("tests/browser")
}
