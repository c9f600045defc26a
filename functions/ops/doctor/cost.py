"""Whether an idle sweep reads the open rows alone. The planner is asked, with sequential scans
forbidden: it knows better than we which predicate implies which."""

from collections.abc import Iterator
from typing import Any

from functions.core.policy import Watch
from functions.core.states import State
from functions.install.column_sql import TEXTS, identifier
from functions.install.table import Table
from functions.ops.doctor.finding import Finding, fine, warns
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.session import Connection

CLOCKS = {State.PENDING: "queued", State.RUNNING: "alive"}
"""The clock by which a sweep judges each open state."""


def indexes(connection: Connection, watch: Watch, table: Facts) -> list[Finding]:
    findings = [
        warns(
            watch.name,
            "index",
            f"no index leads to the {state} tasks of {table.title}",
            "each sweep reads the whole table: 0.13 ms with the index, 0.7 s without it at 5 "
            "million rows.",
            statement(watch, table, state),
        )
        for state in CLOCKS
        if watch.words[state] and not _leads(connection, watch, table, state)
    ]
    findings += _claims(connection, watch, table)
    findings += _turns(connection, watch, table)
    return findings or [
        fine(watch.name, "index", "an index leads to the pending and the running tasks")
    ]


def _claims(connection: Connection, watch: Watch, table: Facts) -> Iterator[Finding]:
    """Whether a worker that asks for the next task finds it without a walk past the others: in the
    order of the priority, and among those of its kinds."""
    expressions = Table(watch)
    aims = {
        "the most urgent task": (False, "priority" in watch.columns),
        "the next task of a kind": (True, _has_kinds(watch)),
    }
    for aim, (by_kind, is_asked) in aims.items():
        columns = expressions.claim_index(by_kind=by_kind)
        if not is_asked or not watch.may_wait or columns is None:
            continue
        if not _is_ordered(connection, expressions, by_kind=by_kind):
            condition = expressions.by_word("", State.PENDING)
            yield warns(
                watch.name,
                "index",
                f"no index leads to {aim} of {table.title}",
                "each claim of a worker that pulls walks past all pending tasks: 650 times as long "
                "with 100,000 of them.",
                f"create index concurrently on {table.quoted} ({columns}) where {condition};",
            )


def _turns(connection: Connection, watch: Watch, table: Facts) -> Iterator[Finding]:
    """Whether a claim finds the owner whose turn it is, whatever waits. It knows the index by its
    name."""
    expressions = Table(watch)
    columns = expressions.rotation_index
    if not expressions.rotates or columns is None or _has_turns(connection, expressions):
        return
    schema, name = expressions.rotation_name
    condition = expressions.by_word("", State.PENDING)
    statement = f"create index concurrently {name} on {table.quoted} ({columns}) where {condition};"
    row = connection.execute("select to_regclass(%s)", (schema + name,)).fetchone()
    if row and row[0]:  # it is not valid, or of an earlier policy
        statement = f"drop index {schema}{name};\n{statement}"
    yield warns(
        watch.name,
        "index",
        f"no index leads to the owner whose turn it is in {table.title}",
        "each claim looks for the turns of the owners only among the 100 tasks that are next by "
        "age and the 100 that came last: one that lies between waits until it is one of them.",
        statement,
    )


def _has_turns(connection: Connection, expressions: Table) -> bool:
    for setting in ("enable_seqscan", "enable_sort"):
        connection.execute(f"set local {setting} = off".encode())
    owner, queued = expressions.owner_or_none("t"), expressions.queued_bound("t")
    kinds = [f"{expressions.kind('t')} = 'one'"] if "kind" in expressions.watch.columns else []
    priorities = [expressions.is_as_urgent("t", "u")]
    tests = " and ".join([expressions.is_in("t", State.PENDING), *kinds, *priorities])
    query = (
        f"explain (format json) select 1 from (select * from {expressions.name} limit 1) u "
        f"cross join lateral (select 1 from {expressions.name} t where {tests} "
        f"and ({owner}, {queued}) > ('one', 'infinity') order by {owner}, {queued} limit 1) o"
    )
    row = connection.execute(query.encode()).fetchone()
    nodes = list(_below(row[0][0]["Plan"])) if row else []
    is_sorted = any("Sort" in node["Node Type"] for node in nodes)
    name = "".join(expressions.rotation_name)
    named = connection.execute(
        "select c.relname from pg_class c where c.oid = to_regclass(%s)", (name,)
    ).fetchone()
    used = [node.get("Index Name") for node in nodes]
    return not is_sorted and named is not None and named[0] in used


def _has_kinds(watch: Watch) -> bool:
    """Whether the table has a kind by which an index can be made: the text of an enum is not
    immutable."""
    name = watch.columns.get("kind")
    return name is not None and Table(watch).column(name).type in TEXTS


def _is_ordered(connection: Connection, expressions: Table, *, by_kind: bool) -> bool:
    """Whether an index has the rows in the order of a claim: else the planner sorts, although that
    is forbidden."""
    for setting in ("enable_seqscan", "enable_sort"):
        connection.execute(f"set local {setting} = off".encode())
    kind = f"and {expressions.kind('t')} = 'one'" if by_kind else ""
    query = (
        f"explain (format json) select 1 from {expressions.name} t "
        f"where {expressions.is_in('t', State.PENDING)} {kind} "
        f"order by {expressions.claim_order('t')} limit 1"
    )
    row = connection.execute(query.encode()).fetchone()
    nodes = list(_below(row[0][0]["Plan"])) if row else []
    conditions = " ".join(str(node.get("Index Cond", "")) for node in nodes)
    is_sorted = any("Sort" in node["Node Type"] for node in nodes)
    return not is_sorted and (not by_kind or "one" in conditions)


def statement(watch: Watch, table: Facts, state: State) -> str:
    """The index that is wanted: small, on the clock, of the open rows alone."""
    own = [name for name in watch.clocks.get(CLOCKS[state], ()) if name in table.columns]
    clock = identifier((own or [watch.key])[0])
    condition = Table(watch).by_word("", state)
    return f"create index concurrently on {table.quoted} ({clock}) where {condition};"


def _leads(connection: Connection, watch: Watch, table: Facts, state: State) -> bool:
    expressions = Table(watch)
    bound = {State.PENDING: expressions.queued_bound, State.RUNNING: expressions.alive_bound}
    connection.execute("set local enable_seqscan = off")
    query = (
        f"explain (format json) select 1 from {table.quoted} t "
        f"where {expressions.is_in('t', state)} "
        f"and {bound[state]('t')} <= now() - interval '1 hour'"
    )
    row = connection.execute(query.encode()).fetchone()
    plan = row[0][0]["Plan"] if row else {}
    scans = list(_scans(plan, _parts(connection, table)))
    return bool(scans) and all(
        index is not None and _mentions(connection, schema, index, watch.status)
        for schema, index in scans
    )


def _parts(connection: Connection, table: Facts) -> dict[str, str]:
    """The schemas of the table and of its partitions, by name."""
    rows = connection.execute(
        "select c.relname::text, c.relnamespace::regnamespace::text from pg_class c "
        "where c.oid = %(oid)s::oid or c.oid in (select relid from "
        "pg_partition_tree(%(oid)s::oid))",
        {"oid": table.oid},
    ).fetchall()
    return {str(name): str(schema) for name, schema in rows}


def _scans(node: dict[str, Any], parts: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    """How the plan reads the table: the index of each scan, or None."""
    if node.get("Relation Name") in parts:
        schema = parts[node["Relation Name"]]
        below = [child["Index Name"] for child in _below(node) if "Index Name" in child]
        yield schema, below[0] if below else None
        return
    for child in node.get("Plans", ()):
        yield from _scans(child, parts)


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _below(child)


def _mentions(connection: Connection, schema: str, index: str, status: str) -> bool:
    """An index on the clock alone reads all rows that are old enough, which are nearly all."""
    row = connection.execute(
        "select pg_get_indexdef(c.oid) from pg_class c "
        "where c.relname = %s and c.relnamespace::regnamespace::text = %s",
        (index, schema),
    ).fetchone()
    return row is not None and identifier(status).strip('"') in row[0].partition(" USING ")[2]
