"""The example of the README runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support import HOST, OidcProvider


def test_the_readmes_example_is_the_file_and_runs(
    provider: OidcProvider, tmp_path: Path
) -> None:
    example = (HOST / "examples" / "client_credentials.py").read_text()
    readme = (HOST / "README.md").read_text()
    shown = re.search(r"<!-- examples/client_credentials.py -->\n```python\n(.*?)```", readme, re.S)
    assert shown and shown[1] == example
    environment = os.environ | {
        "ISSUER": provider.issuer,
        "CLIENT_ID": "machine-basic",
        "CLIENT_SECRET": "machine-basic-secret-77d0",
    }
    ran = subprocess.run(
        [sys.executable, str(HOST / "examples" / "client_credentials.py")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"a Bearer token, fresh until \d+\nHTTP \d+\n", ran.stdout)
