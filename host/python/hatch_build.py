"""Puts into the package what the workspace has elsewhere, the component that its build left
and the style of the reference host's pages; in a source distribution they are beside this
file."""

import os
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WORKSPACE = Path("..", "..")

# What there is, where in the workspace, and what is to be done where it is lacking.
PARTS = [
    ("tokenwell-interactive.wasm", WORKSPACE / "target" / "component", "run `cargo xtask build` first"),
    ("page.css", WORKSPACE / "host" / "src" / "user_agent" / "loopback", "this is no whole checkout"),
]


class PartsHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        root = Path(self.root)
        for name, folder, mend in PARTS:
            places = [root / "parts" / name, root / folder / name]
            named = os.environ.get("TOKENWELL_COMPONENT")
            if named and name.endswith(".wasm"):
                places[0] = Path(named)
            for place in places:
                if place.is_file():
                    break
            else:
                raise FileNotFoundError(f"there is no {name} in {folder}: {mend}")
            inside = f"parts/{name}" if self.target_name == "sdist" else f"tokenwell/{name}"
            if version != "editable":
                build_data["force_include"][str(place.resolve())] = inside
