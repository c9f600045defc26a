"""Whether the table is as the watch says: its name, key, columns and words. Pure."""

import difflib
from collections.abc import Iterable

from functions.core.policy import Watch
from functions.core.states import State
from functions.ops.adopt import KEYS
from functions.ops.doctor.finding import Finding, breaks, fine, warns
from functions.ops.inspect import word_lists
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.infer import made_up

READ_ONLY = {State.RESTING}
"""States that no verb writes."""


def no_table(watch: Watch) -> Finding:
    do = (
        "Run `migrate --apply`."
        if watch.own
        else "Correct `table` of the watch in policy.yaml, with its schema."
    )
    return breaks(watch.name, "table", f"there is no table {watch.table}", "no verb can run.", do)


def not_made(watch: Watch) -> Finding:
    """Of our own watch, where a table of that name is there which `migrate` did not make."""
    return breaks(
        watch.name,
        "table",
        f"{watch.table} is there, and was not made by Unstuck",
        "`migrate` stops at it, and installs nothing.",
        f"Take the watch {watch.name} out of policy.yaml. If workers run the rows of that table, "
        f"`adopt --table {watch.table} --write` does that too.",
    )


def used(watch: Watch) -> dict[str, str]:
    """The columns of the table that the watch names, and as what."""
    roles = {watch.key: "key", watch.status: "status"}
    roles |= {name: f"columns.{role}" for role, name in watch.columns.items()}
    roles |= {
        name: f"clocks.{role}"
        for role, names in watch.clocks.items()
        for name in names
        if " via " not in name
    }
    return roles | {name: f"also.{state}" for state, names in watch.also.items() for name in names}


def columns(watch: Watch, table: Facts) -> list[Finding]:
    """Only what is wrong: without its columns nothing else of a table can be checked."""
    findings = []
    for name, role in used(watch).items():
        if name not in table.columns:
            near = difflib.get_close_matches(name, table.columns, 1, 0.6)
            correction = f"Write {near[0]}" if near else "Correct it"
            findings.append(
                breaks(
                    watch.name,
                    "columns",
                    f"{table.title} has no column {name} ({role})",
                    "every verb names it, and fails.",
                    f"{correction} in the watch, then run `migrate --apply`.",
                )
            )
    return findings


def key(watch: Watch, table: Facts) -> list[Finding]:
    findings, kind = [], table.columns[watch.key].type
    if KEYS.get(kind, kind) != watch.key_type:
        findings.append(
            breaks(
                watch.name,
                "key",
                f"{watch.key} is {table.shown[watch.key]}, and key_type says {watch.key_type}",
                "the comparison fails, or goes round the index of the key.",
                f"Write key_type: {KEYS.get(kind, kind)}.",
            )
        )
    is_unique = any(
        index.unique and index.columns == (watch.key,) and not index.where
        for index in table.indexes
    )
    if table.key != (watch.key,) and not is_unique:
        # a partitioned table needs its time in the primary key too
        made_by_database = watch.key in table.key and made_up(table.columns[watch.key])
        level = warns if made_by_database else breaks
        findings.append(
            level(
                watch.name,
                "key",
                f"{watch.key} alone is not unique in {table.title}",
                "one settle could move several tasks.",
                "Name a key that is, or create a unique index on it.",
            )
        )
    return findings


def words(watch: Watch, table: Facts) -> list[Finding]:
    """The words against the labels of an enum, or the list of a CHECK."""
    status = table.columns[watch.status]
    allowed, source = set(status.labels), "the enum"
    if not allowed:
        lists = [set(words) for words in word_lists.closed_lists(table, watch.status)]
        allowed, source = set.intersection(*lists) if lists else set(), "the CHECK"
    if not allowed or status.type == "bool":
        fact = f"no list in the database says which words {watch.status} may hold"
        return [fine(watch.name, "words", fact)]
    findings = [*_unknown(watch, allowed, source), *_unmapped(watch, allowed)]
    return findings or [fine(watch.name, "words", f"the words are those of {source}")]


def _unknown(watch: Watch, allowed: set[str], source: str) -> Iterable[Finding]:
    for state, words in watch.words.items():
        for place, word in enumerate(words):
            if str(word) in allowed:
                continue
            near = difflib.get_close_matches(str(word), allowed, 1, 0.7)
            do = f"Write {near[0]!r}." if near else f"Take it out, or let {source} allow it."
            fact = f"{source} does not know {word!r} ({state})"
            is_written = place == 0 and state not in READ_ONLY
            if source == "the enum":
                yield breaks(watch.name, "words", fact, "comparing with it is an error.", do)
            elif is_written:
                why = f"a task that becomes {state} is refused."
                yield breaks(watch.name, "words", fact, why, do)
            else:
                yield warns(watch.name, "words", fact, "no task ever has it.", do)


def _unmapped(watch: Watch, allowed: set[str]) -> Iterable[Finding]:
    mapped = {str(word) for words in watch.words.values() for word in words}
    if left := sorted(allowed - mapped):
        yield warns(
            watch.name,
            "words",
            f"no state of the watch has {', '.join(map(repr, left))}",
            "a task with such a word is never swept, and nobody is told.",
            "Give each a state; `resting` for what waits for a person.",
        )
