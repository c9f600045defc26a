"""A Firefox that is driven by WebDriver BiDi: a few commands over one web socket. Playwright drives
only a Firefox of its own build."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

NAMES = ("firefox-esr", "firefox")
LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
LIMIT = 60.0
"""Seconds for an answer, and for what a page is waited for."""


class Firefox:
    """One tab. `errors` are what its console said of errors."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.errors: list[str] = []
        self._ask("session.new", capabilities={})
        self._ask("session.subscribe", events=["log.entryAdded"])
        self._tab = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def _ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=LIMIT))
            entry = answer.get("params", {})
            if answer.get("method") == "log.entryAdded" and entry.get("level") == "error":
                self.errors.append(str(entry.get("text")))
            if answer.get("id") == self._number:
                assert answer["type"] == "success", f"{method}: {answer}"
                return answer["result"]

    def open(self, url: str) -> None:
        self._ask("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression that JSON can say."""
        answer = self._ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert answer["type"] == "success", f"{expression}: {answer}"
        text = answer["result"].get("value")
        return None if text is None else json.loads(text)

    def until(self, expression: str) -> Any:
        return eventually(lambda: self.run(expression), LIMIT, f"never: {expression}")

    def click(self, selector: str) -> None:
        """With the mouse, on the first that the selector finds."""
        locator = {"type": "css", "value": selector}
        nodes = self._ask("browsingContext.locateNodes", context=self._tab, locator=locator)
        origin = {"type": "element", "element": {"sharedId": nodes["nodes"][0]["sharedId"]}}
        moves = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
        self._act("pointer", moves)

    def press(self, keys: str) -> None:
        self._act(
            "key", [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        )

    def _act(self, device: str, actions: list[dict[str, Any]]) -> None:
        moved = [{"type": device, "id": device, "actions": actions}]
        self._ask("input.performActions", context=self._tab, actions=moved)


@contextmanager
def firefox() -> Iterator[Firefox]:
    from websockets.sync.client import connect

    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Firefox here: apt install firefox-esr")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        command = [program, "--headless", "--no-remote", "--profile", folder]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*command, "--remote-debugging-port", "0", "about:blank"],
                stdout=output,
                stderr=output,
                env={"PATH": "/usr/bin:/bin", "HOME": folder, "MOZ_HEADLESS": "1"},
            )
        try:
            address = eventually(
                lambda: LISTENS.search(log.read_text(errors="replace")), LIMIT, "no Firefox"
            )
            with connect(f"{address[1]}/session", max_size=None) as socket:
                yield Firefox(socket)
        finally:
            process.terminate()
            process.wait(LIMIT)
