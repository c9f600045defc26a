"""The stuck rows of a table that is guarded already: by the rules of its watch, from the function
that the page, the counts and the sweep ask, so that no two of them differ."""

from functions.core.policy import Watch, load
from functions.core.states import State
from functions.errors import PolicyError
from functions.install.table import Table
from functions.ops.cli.out import PROGRAM
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import Limits
from functions.ops.inspect.session import Connection, read_only
from functions.ops.inspect.stuck import Stuck

TRIGGERS = {"unstuck_put_back", "unstuck_fence", "unstuck_observe"}
MOST_ROWS = 20_000
_INSTALLED = """
select coalesce(has_function_privilege(f.oid, 'execute'), false)
from to_regprocedure(%s) as f (oid)
where to_regclass(%s)::oid = %s::oid and has_schema_privilege('unstuck', 'usage')
"""
ACTIONS = {"failed": "fail", "pending": "requeue", "cancelled": "cancel"}


def watch_of(connection: Connection, inferred: Inferred) -> Watch | None:
    """The watch of the policy that guards this table in this database."""
    try:
        watches = load().watches.values()
    except PolicyError:
        return None
    with read_only(connection):
        if connection.execute("select to_regnamespace('unstuck')").fetchone() == (None,):
            return None
        for watch in watches:
            verb = f"unstuck.{watch.name}_stuck(jsonb,integer)"
            row = connection.execute(
                _INSTALLED, (verb, Table(watch).name, inferred.table.oid)
            ).fetchone()
            if row == (True,):
                return watch
    return None


def why_no_fix(inferred: Inferred, watch: Watch | None) -> str | None:
    """Why `--fix` leaves the table alone, with the next step: it knows nothing of the ledger, and
    would end what a worker in the guard holds."""
    if watch:
        return (
            f"the watch {watch.name} guards it, and ends what is stuck by its rules: "
            f"`{PROGRAM} sweep --in {watch.name}` (--dry-run shows it). For tasks that you choose: "
            f"`fail --in {watch.name} --id ID`, or `requeue`."
        )
    triggers = [name for trigger in inferred.table.triggers if (name := trigger.name) in TRIGGERS]
    if triggers:
        return (
            f"it is guarded (it has the trigger {triggers[0]}), by a watch that this policy.yaml "
            "does not have. Set UNSTUCK_POLICY to the policy of its deployment."
        )
    return None


def find_stuck(connection: Connection, watch: Watch, limits: Limits) -> tuple[list[Stuck], int]:
    """The stuck tasks, the oldest first, and how many there are in all."""
    table = Table(watch)
    query = (
        f"select d.task ->> 'task_id', d.task ->> 'was', t.{table.status}::text, "
        "(d.task ->> 'age')::float8, d.task ->> 'error', d.task ->> 'kind', d.task ->> 'state' "
        f"from jsonb_array_elements(unstuck.{watch.name}_stuck(%s::jsonb, {MOST_ROWS}) -> 'tasks') "
        "with ordinality as d (task, n) "
        f"join {table.name} t on t.{table.key} = (d.task ->> 'task_id')::{watch.key_type} "
        "order by d.n"
    )
    with read_only(connection):
        rows = connection.execute(query.encode(), (str(watch.rules_json),)).fetchall()
    stuck = [
        Stuck(key, State(was), word, age, error, kind or None, ACTIONS.get(state, "none"))
        for key, was, word, age, error, kind, state in rows
        if (limits.job is None or key == limits.job) and (limits.kind in {None, kind})
    ]
    return stuck[: limits.limit], len(stuck)
