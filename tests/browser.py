"""A real Chromium for what runs in one: `chromium` for each module, `tab` (a page of a fresh
profile) for each test.

Of the module, not of the session: while Playwright's loop runs, no other test in this thread may
run one of its own."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.missing import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # The popups of an address bar that nobody sees: two renderers for each window, three quarters
    # of its CPU (four windows: 5.4 s with them, 1.4 without). Chromium keeps only the last of such
    # lists, so that Playwright's own is not in force: no test depends on it.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
)
LIMIT = 20_000
"""Milliseconds that Playwright waits for anything: the machine may be busy."""


def executable() -> str | None:
    """The Chromium of this machine."""
    return os.environ.get("CHROMIUM_BIN") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    if executable() is None:
        missing("no Chromium here: apt install chromium, or set CHROMIUM_BIN")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: "Browser") -> Iterator["Page"]:
    """A page in a profile of its own. A script's error that nobody caught fails the test."""
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(LIMIT)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(f"{error}"))
        yield page
    assert not errors, f"errors of the page's scripts: {errors}"
