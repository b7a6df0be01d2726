from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Cli, OidcProvider, ScriptedServer, ending

# What a developer's session has is none of the tests' business.
for name in ("DBUS_SESSION_BUS_ADDRESS", "TOKENWELL_PASSWORD", "BROWSER"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def provider() -> Iterator[OidcProvider]:
    with ending(OidcProvider()) as server:
        yield server


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ending(ScriptedServer()) as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)
