"""Whatever JSON a handler or a worker elsewhere writes, the page, `explain` and the commands show
the task."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.core.explain import explain
from functions.core.policy import load
from functions.core.progress import Progress, progress_of
from functions.entry.app import App
from functions.ops.command_line import main
from functions.page.app import create
from functions.page.current import Page
from tests.conftest import copied

POLICY = load()
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | TEXT
    | st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf"))
)
JSON = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PROGRESS = JSON | st.fixed_dictionaries({}, optional={"fraction": JSON, "message": JSON})
SHAPES = [
    {"fraction": None, "message": "drawing"},
    {"message": ["a", {"b": None}]},
    {"fraction": "half"},
    {"fraction": True},
    {"fraction": 1e308},
    {"fraction": -(10**400)},
    [],
    "text",
    7,
    None,
]


class Shown:
    """A claimed task, and the page that shows it."""

    def __init__(self, dsn: str) -> None:
        self.app = App({"DATABASE_URL": dsn, "USERS": "none"})
        self.watch, self.dsn = POLICY.watch(), dsn
        self.db: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
        self.task = self.app.store.create(self.watch, "image", {}).task_id
        self.app.store.claim(self.watch, self.task, "w")
        page = create(Page(self.app, lambda _: "ann", write=True))
        page.config["PROPAGATE_EXCEPTIONS"] = False
        self.client: FlaskClient = page.test_client()

    def write(self, progress: Any, error: str = "", more: Any = None) -> None:
        steps = json.dumps({"step": more})
        values = (json.dumps(progress), error, error, steps, self.task)
        self.db.execute(
            "update unstuck.attempts set progress = %s::jsonb, error = %s, detail = %s, "
            "checkpoint = %s::jsonb where task_id = %s",
            values,
        )
        self.db.execute(
            "update public.tasks set input = %s::jsonb, error_message = %s where id = %s",
            (json.dumps(more), error, self.task),
        )

    def statuses(self) -> dict[str, int]:
        paths = ("/", f"/tasks/{self.task}", f"/tasks/{self.task}?part=live")
        paths += (f"/payload/{self.task}", "/part/list")
        return {path: self.client.get(path).status_code for path in paths}


@pytest.fixture(scope="module")
def shown(postgres: Any, template: str) -> Iterator[Shown]:
    with copied(postgres, template) as dsn:
        shown = Shown(dsn)
        yield shown
        shown.db.close()
        shown.app.store.close()


def check(shown: Shown) -> None:
    assert set(shown.statuses().values()) == {200}
    status = shown.app.store.status(shown.watch, shown.task, heal=False)
    assert status
    assert explain(POLICY, shown.watch, status)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(PROGRESS, TEXT, JSON)
def test_the_page_and_explain_show_whatever_json_is_there(
    shown: Shown, progress: Any, error: str, more: Any
) -> None:
    shown.write(progress, error, more)
    check(shown)


@pytest.mark.parametrize("progress", SHAPES, ids=range(len(SHAPES)))
def test_progress_of_any_shape_breaks_neither_the_page_nor_a_command(
    shown: Shown, progress: Any
) -> None:
    shown.write(progress)
    check(shown)
    for command in (["list"], ["explain", shown.task], ["show", shown.task]):
        assert main([*command, "--dsn", shown.dsn]) == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is slow
@given(PROGRESS)
def test_a_fraction_is_from_0_to_1_or_none_and_a_message_is_a_text(progress: Any) -> None:
    fraction, message = progress_of(progress)
    assert fraction is None or 0 <= fraction <= 1
    assert isinstance(message, str)


def test_progress_is_what_was_told() -> None:
    assert progress_of({"fraction": 0.25, "message": "drawing"}) == Progress(0.25, "drawing")
    assert progress_of({"message": "drawing"}) == Progress(None, "drawing")
    assert progress_of({"fraction": 1}) == Progress(1.0, "")
    assert progress_of({"message": {"of": 3}}) == Progress(None, '{"of": 3}')


@pytest.mark.parametrize(
    "after",
    [
        "[" * 2900,
        '{"section": 1e999, "id": "x"}',
        '{"section": 1, "at": "9999-99-99 99:99:99", "id": "x"}',
        '{"section": 1, "at": 5, "id": "x"}',
        '{"section": 4, "id": "no uuid"}',
        '{"section": 4, "id": "\\u0000"}',
    ],
)
def test_a_place_that_is_none_is_the_first_page(shown: Shown, after: str) -> None:
    text = base64.urlsafe_b64encode(after.encode()).decode()
    assert shown.client.get("/", query_string={"after": text}).status_code == 200
    assert (
        shown.client.get("/", query_string={"after": text, "state": "running"}).status_code == 200
    )


@pytest.mark.parametrize("path", ["/confirm?action=cancel&kind=a%00b", "/sweeps/1?after=%00"])
def test_a_query_with_a_nul_is_no_error_of_ours(shown: Shown, path: str) -> None:
    assert shown.client.get(path).status_code < 500


def test_a_refused_part_of_the_page_is_text_and_not_markup(shown: Shown) -> None:
    answer = shown.client.get("/?watch=<img src=x>", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.mimetype) == (400, "text/plain")
