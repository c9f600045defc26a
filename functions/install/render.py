"""Makes the SQL of a watched table from the templates in functions/sql. What comes out is plain,
static SQL that can be read, diffed and put into a migration.

A template is SQL with names of the table in it (functions.install.names has them all, and
`fill_in`, which puts them in):

    @table@ t, t.@key@         a name: the quoted table, the quoted column of the row t
    '@watch@'                  a name as a literal: the quotes of the template are those of SQL
    @is_pending(t)@            an expression over the row t: a predicate, a time, a text
    set @move(t, x)@           assignments to the row t, by the decision x
    @on_failed(p_task, ...)@   a statement: the calls of the watch's hooks with these arguments

At signs, since all else that marks a placeholder means something in plpgsql: `{}` is an empty array
or object, `%` a part of raise and format, `$` begins a quoted body or a parameter, and `:x` is a
part of a slice or a cast."""

import re
from pathlib import Path

from functions.core.policy import Watch
from functions.core.sqlstates import sqlstates_of_weather
from functions.install.column_sql import literal
from functions.install.names import fill_in, names
from functions.install.table import Table

SQL = Path(__file__).parents[1] / "sql"
SHARED = (
    "rules",
    "pauses",
    "limits",
    "beat",
    "checkpoint",
    "sweeps",
    "evidence",
    "held_by",
    "outbox",
    "net",
    "heed",
    "metrics",
    "trigger",
)
OF_OUR_OWN = ("create", "turn")
OF_OWNERS = ("rotate",)
VERBS = (
    "tell",
    "create",
    "turn",
    "rotate",
    "claim",
    "settle",
    "sweep",
    "retain",
    "batch",
    "status",
    "overview",
    "pace",
    "find",
    "operate",
    "cancel",
    "page",
    "summary",
    "timeline",
)
FENCES = {"off": (), "observe": ("observe", "fence"), "enforce": ("fence",)}
TRIGGERS = ("observe", "put_back", "fence")


def template(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def shared() -> str:
    """The functions that serve every watch."""
    text = "\n".join(template(name) for name in SHARED)
    return fill_in(text, {"passing_sqlstates": ", ".join(map(literal, sqlstates_of_weather()))})


def verbs(watch: Watch) -> str:
    """The functions of one watch. Tasks of a table that is not our own are created by its own
    application; the claim sees to the turns of their owners."""
    filled = names(watch)
    needless = () if watch.own else OF_OUR_OWN
    if not Table(watch).rotates:
        needless = (*needless, *OF_OWNERS)
    triggers = FENCES[watch.fence]
    if Table(watch).sees_put_back and "observe" not in triggers:
        triggers = ("put_back", *triggers)
    files = [verb for verb in VERBS if verb not in needless]
    dropped = [trigger for trigger in TRIGGERS if trigger not in triggers]
    return "\n".join(
        [fill_in(template(file), filled) for file in (*files, *triggers)]
        + [_without(watch, trigger) for trigger in dropped]
    )


def routines(watch: str) -> list[str]:
    """All functions that a watch of that name may have, whatever its policy said."""
    texts = (path.read_text(encoding="utf-8") for path in SQL.rglob("*.sql"))
    pattern = re.compile(r"function unstuck\.@watch@_(\w+)")
    return sorted({f"{watch}_{name}" for text in texts for name in pattern.findall(text)})


def optional(watch: Watch, part: str) -> str:
    """What a part of functions/sql/optional needs in the database, for one watch."""
    return fill_in(template(f"optional/{part}"), names(watch))


def _without(watch: Watch, trigger: str) -> str:
    """Drops a trigger that an earlier policy asked for, and what it saw, which would be stale when
    it comes back."""
    observed = f"delete from unstuck.observed where watch = {literal(watch.name)};"
    values = {
        "trigger": trigger,
        "function": f"unstuck.{watch.name}_{trigger}()",
        "table": Table(watch).name,
        "forget": observed if trigger == "observe" else "null;",
    }
    return fill_in(template("drop_trigger"), values)
