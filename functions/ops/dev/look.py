"""What `dev --dsn` shows of a database in which Unstuck is not installed: the tables that look like
task tables, and what is stuck in one of them."""

from typing import Any

from flask import Blueprint, Flask, render_template, request

from functions.entry.app import App
from functions.errors import PolicyError, StoreError
from functions.ops.inspect import check
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import Connection, connect
from functions.ops.inspect.stuck import find_stuck

SHOWN_TASKS = 200
HAS_FUNCTION = """
select exists (
  select from pg_proc p
  where p.pronamespace = to_regnamespace('unstuck') and p.proname = %s)
"""


def installed(dsn: str, watch: str) -> bool:
    """Whether the page's own functions are there."""
    with connect(dsn) as connection:
        row = connection.execute(HAS_FUNCTION, (f"{watch}_page",)).fetchone()
    return bool(row and row[0])


def create(dsn: str, table: str | None) -> Flask:
    """The page's own frame; what stands in it is the look at the tables."""
    from functions.page.app import create as frame
    from functions.page.current import Page

    page = Page(App({"DATABASE_URL": dsn}), lambda _: "local", extras=(_look(dsn, table),))
    app = frame(page)
    app.view_functions["views.index"] = app.view_functions["look.index"]
    return app


def _look(dsn: str, table: str | None) -> Blueprint:
    look = Blueprint("look", __name__, template_folder="templates")

    @look.get("/look")
    def index() -> str:
        chosen = request.args.get("table") or table
        with connect(dsn) as connection:
            if chosen is None:
                values = {"tables": check.tables(connection)}
            else:
                values = _stuck(connection, chosen)
        return render_template("look.html", title="Look", table=chosen, **values)

    return look


def _stuck(connection: Connection, table: str) -> dict[str, Any]:
    """What is stuck in a table, or why that cannot be said."""
    try:
        inferred = check.infer_table(connection, table)
    except (StoreError, PolicyError) as error:
        return {"refused": str(error)}
    if inferred.refused or inferred.blind:
        return {"refused": inferred.refused or inferred.unsure[-1]}
    stuck, total, opened, unjudged = find_stuck(connection, inferred, Limits(limit=SHOWN_TASKS))
    return {
        "stuck": stuck,
        "total": total,
        "opened": opened,
        "unjudged": unjudged,
        "unsure": inferred.unsure,
    }
