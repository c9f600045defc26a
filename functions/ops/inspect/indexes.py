"""Whether an index leads to the open rows of a table, and which one would. Pure.

With one for each open state an idle look costs 0.13 ms at 5 million rows as at ten thousand;
without, it reads the table."""

from functions.install.column_sql import identifier, literal
from functions.ops.inspect.infer import Inferred
from functions.ops.inspect.overdue import Limits, open_states


def covered(inferred: Inferred) -> bool:
    name, indexes = inferred.mapping.status or "", inferred.table.indexes
    if any(index.columns[:1] == (name,) and not index.where for index in indexes):
        return True
    words = [str(word) for test in open_states(inferred, Limits()) for word in test.words]
    predicates = " ".join(index.where for index in indexes if name in index.where)
    return bool(words) and all(f"'{word}'" in predicates for word in words)


def recommended(inferred: Inferred) -> list[str]:
    """The statements that create what `covered` asks for, the same as `doctor` names: one small
    index for each open state, on its first clock, else on the key."""
    table, status = inferred.table.quoted, identifier(inferred.mapping.status or "")
    statements = []
    for test in open_states(inferred, Limits()):
        clocks = ("due", "queued") if test.pending else ("alive", "started", "queued")
        names = [name for clock in clocks for name in inferred.mapping.clock(clock)]
        clock = next(iter((*names, inferred.mapping.key or "")))
        words = ", ".join(literal(word) for word in test.words)
        values = f"= {words}" if len(test.words) == 1 else f"in ({words})"
        statements.append(
            f"create index concurrently on {table} ({identifier(clock)}) where {status} {values};"
        )
    return statements
