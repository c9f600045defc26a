"""What the page works with, the table that the address names, and links below the page's own
prefix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, current_app, g, request

from functions.core.policy import Policy, Watch
from functions.entry.app import App
from functions.entry.fields import watch_of
from functions.store import Store

ASSETS = "assets"
"""Not `static`: functions-framework's own application answers that path (404)."""


@dataclass(frozen=True)
class Page:
    """What the page works with. `who` names the caller of a request; `extras` are the buttons of
    the local server."""

    app: App
    who: Callable[[Any], str]
    write: bool = False
    redact: Iterable[str] = ()
    extras: tuple[Blueprint, ...] = ()
    dev: dict[str, Any] = field(default_factory=dict)
    """What the templates of the local server need; empty where the page is deployed."""

    def store(self) -> Store:
        return self.app.store

    def policy(self) -> Policy:
        return self.app.policy


def page() -> Page:
    """Of the application that answers."""
    current: Page = current_app.config["PAGE"]
    return current


def named_watch() -> str:
    """As the address names it, or a form that may change something: no other form is read."""
    values = request.values if g.get("takes_forms") else request.args
    return values.get("watch") or ""


def watch() -> Watch:
    """The watch (a table of the policy) that the address names, else the first. Raises
    BadRequestError."""
    name = named_watch()
    return watch_of(page().policy(), {"watch": name} if name else {})


def short(key: str) -> str:
    """The first part of a uuid; other keys as they are."""
    return key[:8] if len(key) == 36 else key


def link(path: str = "", **query: Any) -> str:
    """Below the prefix at which the page is served. What is None or empty is left out."""
    from urllib.parse import quote, urlencode

    if (name := named_watch()) and not path.startswith(ASSETS):
        query.setdefault("watch", name)
    kept = {name: value for name, value in query.items() if value not in {None, ""}}
    address = f"{request.script_root}/{quote(path)}"
    return f"{address}?{urlencode(kept, doseq=True)}" if kept else address
