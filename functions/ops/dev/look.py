"""What `dev --dsn` shows where nothing is installed: the tables that look like task tables, and
what is stuck in one."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from flask import Blueprint, Flask, render_template, request

from functions.core.policy import load
from functions.errors import PolicyError, StoreError
from functions.ops.look import check
from functions.ops.look.overdue import Limits
from functions.ops.look.session import connect
from functions.ops.look.stuck import find_stuck
from functions.store.postgres import PostgresStore

SHOWN = 200


def installed(dsn: str, watch: str) -> bool:
    """Whether the page's own functions are there."""
    query = "select exists (select from pg_proc p where p.pronamespace = to_regnamespace('unstuck') and p.proname = %s)"
    with psycopg.connect(dsn, prepare_threshold=None, connect_timeout=10) as connection:
        row = connection.execute(query, (f"{watch}_page",)).fetchone()
    return bool(row and row[0])


def create(dsn: str, table: str | None) -> Flask:
    """The page's own frame, with the look in place of its views."""
    from functions.page.app import create as frame
    from functions.page.current import Page

    app = frame(
        Page(lambda: PostgresStore(dsn), load, lambda _: "local", extras=(_blueprint(dsn, table),))
    )
    app.view_functions["views.index"] = app.view_functions["look.index"]
    return app


def _blueprint(dsn: str, table: str | None) -> Blueprint:
    made = Blueprint("look", __name__, template_folder="templates")

    @made.get("/look")
    def index() -> str:
        chosen = request.args.get("table") or table
        with _connected(dsn) as connection:
            if chosen is None:
                return render_template(
                    "look.html", title="Look", tables=check.tables(connection), table=None
                )
            try:
                found = check.infer_table(connection, chosen)
            except (StoreError, PolicyError) as error:
                return render_template("look.html", title="Look", table=chosen, refused=str(error))
            if found.refused or found.blind:
                return render_template(
                    "look.html",
                    title="Look",
                    table=chosen,
                    refused=found.refused or found.unsure[-1],
                )
            stuck, total, opened = find_stuck(connection, found, Limits(limit=SHOWN))
        return render_template(
            "look.html",
            title="Look",
            table=chosen,
            stuck=stuck,
            total=total,
            opened=opened,
            mapping=found.mapping.as_json(),
            unsure=found.unsure,
        )

    return made


@contextmanager
def _connected(dsn: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with connect(dsn) as connection:
        yield connection
