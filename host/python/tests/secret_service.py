"""A real keyring: GNOME's, on a D-Bus session of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support import Process, eventually

# The system's own bus would, for whoever asks before the daemon below has taken its name,
# start a second, locked one.
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@contextlib.contextmanager
def secret_service(home: Path) -> Iterator[str]:
    """Starts an unlocked Secret Service that nobody else sees, and tells what
    DBUS_SESSION_BUS_ADDRESS is to be."""
    home.mkdir(mode=0o700)
    config = home / "bus.conf"
    config.write_text(BUS)
    environment = {k: v for k, v in os.environ.items() if k != "DBUS_SESSION_BUS_ADDRESS"}
    environment |= {name: str(home) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME")}
    bus = Process(
        "dbus-daemon", "--nofork", "--nopidfile", "--print-address",
        f"--config-file={config}", env=environment,
    )  # fmt: skip
    try:
        address = bus.line()
        environment["DBUS_SESSION_BUS_ADDRESS"] = address
        daemon = Process(
            "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets",
            env=environment,
        )  # fmt: skip
        try:
            # The password of the login keyring, which is made now.
            assert daemon.child.stdin
            daemon.child.stdin.write("test")
            daemon.child.stdin.close()
            eventually("the default keyring", lambda: _has_default(environment))
            yield address
        finally:
            daemon.end()
    finally:
        bus.end()


def _has_default(environment: dict[str, str]) -> bool:
    asked = [
        "dbus-send", "--session", "--print-reply=literal", "--dest=org.freedesktop.secrets",
        "/org/freedesktop/secrets", "org.freedesktop.Secret.Service.ReadAlias", "string:default",
    ]  # fmt: skip
    answer = subprocess.run(asked, env=environment, capture_output=True, text=True)
    return "/collection/" in answer.stdout
