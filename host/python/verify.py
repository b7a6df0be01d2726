"""Builds the package, installs it in a virtual environment of its own, and tests what is
installed:

    python3 host/python/verify.py [PYTEST ARGUMENT]...

It prints pytest's summary as its last line and exits with pytest's code. All that it makes
is under target/python; a second run reuses what is unchanged. The component has to be there:
`cargo xtask build` makes it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE.parent.parent
TARGET = WORKSPACE / "target" / "python"
COMPONENT = WORKSPACE / "target" / "component" / "tokenwell-interactive.wasm"
ENVIRONMENT = TARGET / "environment"
PYTHON = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*command: str | Path, **arguments: object) -> None:
    result = subprocess.run([str(part) for part in command], **arguments)  # type: ignore[call-overload]
    if result.returncode != 0:
        sys.exit(result.returncode)


def digest(*paths: Path) -> str:
    """What tells one state of some files from another."""
    found = hashlib.sha256(sys.version.encode())
    for path in sorted(paths):
        found.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def is_done(stamp: Path, state: str) -> bool:
    return stamp.is_file() and stamp.read_text() == state


def prepare() -> None:
    """Makes the environment, with the wheel in it."""
    if not COMPONENT.is_file():
        say(f"there is no {COMPONENT}: run `cargo xtask build` first")
        sys.exit(1)
    requirements = HERE / "requirements-test.txt"
    stamp = TARGET / "environment.stamp"
    state = digest(requirements)
    if not is_done(stamp, state) or not PYTHON.is_file():
        say("Making a virtual environment")
        stamp.unlink(missing_ok=True)
        (TARGET / "wheel.stamp").unlink(missing_ok=True)
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True)
        pip("install", "--requirement", requirements)
        stamp.write_text(state)
    sources = [*(HERE / "src").rglob("*.py"), WORKSPACE / "host/src/user_agent/loopback/page.css"]
    parts = [HERE / name for name in ("pyproject.toml", "hatch_build.py", "README.md")]
    stamp = TARGET / "wheel.stamp"
    state = digest(COMPONENT, *sources, *parts)
    if not is_done(stamp, state):
        say("Building and installing the wheel")
        stamp.unlink(missing_ok=True)
        wheels = TARGET / "wheel"
        shutil.rmtree(wheels, ignore_errors=True)
        pip("wheel", "--no-deps", "--wheel-dir", wheels, HERE)
        (wheel,) = wheels.glob("*.whl")
        pip("install", "--force-reinstall", "--no-deps", wheel)
        # With the dependencies, where a new one is not among those pinned.
        pip("install", f"{wheel}[httpx,requests,keyring]")
        say("Checking the types")
        mypy = ("-m", "mypy", "--config-file", HERE / "pyproject.toml")
        run(PYTHON, *mypy, "--cache-dir", TARGET / "mypy", cwd=TARGET)
        stamp.write_text(state)


def pip(*arguments: str | Path) -> None:
    run(PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    prepare()
    environment = dict(os.environ)
    # Nothing but what is installed, which is not in this folder either.
    environment.pop("PYTHONPATH", None)
    command = [PYTHON, "-P"] if sys.version_info >= (3, 11) else [PYTHON]
    run(
        *command, "-m", "pytest", "--quiet", "--no-header", "--rootdir", HERE,
        "--config-file", HERE / "pyproject.toml", *(sys.argv[1:] or [HERE / "tests"]),
        cwd=HERE, env=environment,
    )  # fmt: skip


if __name__ == "__main__":
    main()
