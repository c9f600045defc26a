"""What Supabase's REST API needs in the database: the verbs where it can see them, for the service
role alone, and what the owner of a task may read. The rest of the file for `supabase/migrations/`
are the steps of `functions.install.migrate`."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from functions.core.policy import Policy, Watch
from functions.install.column_sql import literal, table_identifier
from functions.install.names import fill_in
from functions.install.render import shared, template, verbs
from functions.install.table import Table

OWN = "unstuck"
SCHEMAS = ("public", OWN)
"""Where the REST API finds the verbs: in `public`, which it exposes from the start, as
`unstuck_VERB`; or in our own schema, which a person has to add to the exposed ones."""
VERBS = (
    "beat",
    "checkpoint",
    "sweep_begin",
    "sweep_end",
    "suspend",
    "clock_jumped",
    "lapsed",
    "prune",
    "sweeps",
    "evidence",
    "held_by",
    "outbox_take",
    "outbox_end",
    "metrics",
    "pause",
    "resume",
    "pauses",
    "pauses_told",
)
WATCH_VERBS = (
    "create",
    "claim",
    "settle",
    "status",
    "cancel",
    "overview",
    "pace",
    "find",
    "history",
    "preview",
    "stuck",
    "operate",
    "sweep",
    "batch",
    "pass_over",
    "orphans",
    "tidy",
    "retain",
    "redispatch",
    "page",
    "pulse",
    "day",
    "failures",
    "count",
    "timeline",
    "payload",
    "swept",
)
"""What a store calls; all else in our schema is called by these."""
LONG = ("sweep", "batch", "orphans", "prune", "retain")
"""These may take 60 s and the others 8 s, as the store lets them. PostgREST says so to the database
(by itself Supabase ends a statement of its API after 8 s, another PostgREST never)."""

_FUNCTION = re.compile(
    r"^create or replace function unstuck\.(?P<name>\w+)"
    r"\((?P<arguments>(?:(?!^create ).)*?)\)"  # one without `returns` hides none behind it
    r"\s+returns (?P<type>\w+)",
    re.DOTALL | re.MULTILINE,
)


class Function(NamedTuple):
    name: str
    arguments: tuple[str, ...]
    """`p_task text default null`, each."""
    returns: str

    @property
    def names(self) -> list[str]:
        return [argument.partition(" ")[0] for argument in self.arguments]

    @property
    def types(self) -> list[str]:
        return [argument.partition(" ")[2].partition(" default ")[0] for argument in self.arguments]


def supabase(policy: Policy, schema: str) -> str:
    """The SQL for one policy; `schema` is one of SCHEMAS. Safe to run again."""
    exposed = list(functions(policy)) if schema != OWN else []
    parts = [_wrapper(schema, function) for function in exposed]
    parts.append(_drop_stale(exposed, schema, policy.own_part))
    parts += [_table(watch) for watch in policy.watches.values()]
    parts.append("notify pgrst, 'reload schema';\n")
    return "\n".join(parts)


def functions(policy: Policy) -> Iterator[Function]:
    """The verbs of the policy, as they are installed."""
    yield from _declared(shared(), VERBS)
    for watch in policy.watches.values():
        yield from _declared(verbs(watch), [f"{watch.name}_{verb}" for verb in WATCH_VERBS])


def _declared(text: str, names: Collection[str]) -> Iterator[Function]:
    for match in _FUNCTION.finditer(text):
        if match["name"] in names:
            arguments = re.split(r",\s*(?=p_)", " ".join(match["arguments"].split()))
            yield Function(match["name"], tuple(filter(None, arguments)), match["type"])


def _wrapper(schema: str, function: Function) -> str:
    name = f"{schema}.{OWN}_{function.name}"
    limit = "60s" if function.name.endswith(LONG) else "8s"
    named = ", ".join(f"{argument} => {argument}" for argument in function.names)
    signature = f"{name}({', '.join(function.types)})"
    return (
        f"create or replace function {name}({', '.join(function.arguments)}) "
        f"returns {function.returns}\n"
        f"language sql set statement_timeout = '{limit}' "
        f"as $$ select unstuck.{function.name}({named}) $$;\n"
        f"revoke all on function {signature} from public, anon, authenticated;\n"
        f"grant execute on function {signature} to service_role;\n"
    )


def _drop_stale(exposed: list[Function], schema: str, installation: str) -> str:
    """Drops what an earlier release or policy had exposed: PostgREST refuses to choose between two
    functions of one name."""
    kept = [literal(f"{schema}.{OWN}_{each.name}({', '.join(each.types)})") for each in exposed]
    named = {"kept": ",\n      ".join(kept), "installation": installation}
    return fill_in(template("drop_stale_wrappers"), named)


def _table(watch: Watch) -> str:
    table = Table(watch).name
    if watch.own:
        return fill_in(template("row_security"), {"table": table})
    clocks = [clock for names in watch.clocks.values() for clock in names]
    joined = {match[1] for clock in clocks if (match := re.match(r"(\S+)\.\w+ via ", clock))}
    others = [table_identifier(name) for name in sorted(joined)]
    grants = [f"grant select on {other} to service_role;" for other in others]
    return "\n".join([f"grant select, update on {table} to service_role;", *grants, ""])
