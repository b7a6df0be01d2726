"""Puts the component into the package: the one that the workspace's build left, or in a
source distribution the one beside this file."""

import os
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "tokenwell-interactive.wasm"


class ComponentHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        root = Path(self.root)
        named = os.environ.get("TOKENWELL_COMPONENT")
        places = [
            Path(named) if named else root / "component" / NAME,
            root / ".." / ".." / "target" / "component" / NAME,
        ]
        for place in places:
            if place.is_file():
                break
        else:
            raise FileNotFoundError(
                f"there is no {NAME} in target/component: run `cargo xtask build` first"
            )
        inside = f"component/{NAME}" if self.target_name == "sdist" else f"tokenwell/{NAME}"
        if version != "editable":
            build_data["force_include"][str(place.resolve())] = inside
