//! Virtual environments of Python, each from its own list of pinned packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::Ui;
use crate::setup::{apt_as_root, apt_install, program};

/// The oldest Python that the pinned packages run on.
const OLDEST: (u32, u32) = (3, 11);

/// The packages of Debian that make a virtual environment.
const PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// Makes a virtual environment with the packages of that `requirements.txt`, unless
/// it is there. Fails with the reason why it cannot be had.
pub fn environment(ui: &Ui, requirements: &Path, place: &Path, whose: &str) -> Result<(), String> {
    let wanted = fs::read_to_string(requirements)
        .map_err(|error| format!("{} cannot be read: {error}", requirements.display()))?;
    if is_installed(place, &wanted) {
        return Ok(());
    }
    let python = python(ui)?;
    // What an interpreter since updated or other packages left behind is of no use.
    let mut make = Command::new(python);
    make.args(["-m", "venv", "--clear"]).arg(place);
    ui.run(&format!("Making a Python environment for {whose}"), make)
        .map_err(|error| format!("the Python environment cannot be made: {error:#}"))?;
    let mut install = Command::new(interpreter(place));
    install.args(["-m", "pip", "install", "--disable-pip-version-check"]);
    install
        .args(["--no-deps", "--requirement"])
        .arg(requirements);
    ui.run(&format!("Installing Python packages for {whose}"), install)
        .map_err(|error| format!("its Python packages cannot be installed: {error:#}"))?;
    fs::write(installed(place), wanted)
        .map_err(|error| format!("{} cannot be written: {error}", place.display()))
}

/// The interpreter of an environment.
pub fn interpreter(place: &Path) -> PathBuf {
    if cfg!(windows) {
        place.join("Scripts").join("python.exe")
    } else {
        place.join("bin").join("python")
    }
}

/// Where it is noted, when all is done, what is installed.
fn installed(place: &Path) -> PathBuf {
    place.join("installed.txt")
}

/// Whether the environment has just these packages, and an interpreter that runs.
fn is_installed(place: &Path, wanted: &str) -> bool {
    fs::read_to_string(installed(place)).is_ok_and(|found| found == wanted)
        && succeeds(Command::new(interpreter(place)).arg("--version"))
}

/// The Python to make an environment with; Debian's is installed where there is
/// none. Fails with the reason why there is none.
fn python(ui: &Ui) -> Result<PathBuf, String> {
    let problem = match usable() {
        Ok(python) => return Ok(python),
        Err(problem) => problem,
    };
    if !apt_as_root() {
        return Err(problem);
    }
    let what = "Installing Python for the tests";
    apt_install(ui, what, &PACKAGES)
        .map_err(|error| format!("Debian's Python cannot be installed: {error:#}"))?;
    usable()
}

fn usable() -> Result<PathBuf, String> {
    let (major, minor) = OLDEST;
    let needed = format!("Python {major}.{minor} or newer");
    let python = program("python3").or_else(|| program("python"));
    let python = python.ok_or_else(|| format!("{needed} is not installed"))?;
    let is_recent = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    if !succeeds(Command::new(&python).args(["-c", &is_recent])) {
        return Err(format!("{} is older than {needed}", python.display()));
    }
    // Debian keeps what makes an environment in a package of its own.
    if !succeeds(Command::new(&python).args(["-c", "import venv, ensurepip"])) {
        return Err(format!("{} has no venv", python.display()));
    }
    Ok(python)
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null());
    quiet.output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn packages_are_installed_again_when_the_list_or_the_interpreter_is_another() {
        let place = std::env::temp_dir().join(format!("xtask-python-{}", std::process::id()));
        fs::create_dir_all(place.join("bin")).unwrap();
        // It runs, whatever it is asked.
        std::os::unix::fs::symlink(program("true").unwrap(), interpreter(&place)).unwrap();
        assert!(!is_installed(&place, "a==1\n"));

        fs::write(installed(&place), "a==1\n").unwrap();
        assert!(is_installed(&place, "a==1\n"));
        assert!(!is_installed(&place, "a==2\n"));

        fs::remove_file(interpreter(&place)).unwrap();
        assert!(!is_installed(&place, "a==1\n"));
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_list_that_is_not_there_is_told() {
        let ui = Ui::new(false);
        let nowhere = Path::new("no-such-list.txt");
        let error = environment(&ui, nowhere, Path::new("nowhere"), "nobody").unwrap_err();
        assert!(error.contains("no-such-list.txt"), "{error}");
    }
}
