"""Whether the table is as the watch says: its name, key, columns and words. Pure."""

import difflib
from collections.abc import Iterable

from functions.core.policy import Watch
from functions.core.states import State
from functions.ops.adopt import KEYS
from functions.ops.doctor.finding import BREAKS, WARNS, Finding, fine
from functions.ops.look import word_lists
from functions.ops.look.catalogue import Facts
from functions.ops.look.infer import made_up

READ_ONLY = {State.RESTING}
"""States that no verb writes."""


def no_table(watch: Watch) -> Finding:
    do = (
        "Run `migrate --apply`."
        if watch.own
        else "Correct `table` of the watch in policy.yaml, with its schema."
    )
    return Finding(
        watch.name, BREAKS, "table", f"there is no table {watch.table}", "no verb can run.", do
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
            do = f"Write {near[0]}" if near else "Correct it"
            findings.append(
                Finding(
                    watch.name,
                    BREAKS,
                    "columns",
                    f"{table.title} has no column {name} ({role})",
                    "every verb names it, and fails.",
                    f"{do} in the watch, then run `migrate --apply`.",
                )
            )
    return findings


def key(watch: Watch, table: Facts) -> list[Finding]:
    findings, kind = [], table.columns[watch.key].type
    if KEYS.get(kind, kind) != watch.key_type:
        findings.append(
            Finding(
                watch.name,
                BREAKS,
                "key",
                f"{watch.key} is {table.shown[watch.key]}, and key_type says {watch.key_type}",
                "the comparison fails, or goes round the index of the key.",
                f"Write key_type: {KEYS.get(kind, kind)}.",
            )
        )
    alone = any(
        index.unique and index.columns == (watch.key,) and not index.where
        for index in table.indexes
    )
    if table.key != (watch.key,) and not alone:
        level = (
            WARNS if watch.key in table.key and made_up(table.columns[watch.key]) else BREAKS
        )  # as in a partitioned table
        findings.append(
            Finding(
                watch.name,
                level,
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
    allowed, by = set(status.labels), "the enum"
    if not allowed:
        by = "the CHECK"
        texts = [one.text for one in table.checks if one.columns == (watch.status,)]
        lists = [
            word_lists.closed(text, watch.status)
            for text in (*texts, *table.domain_checks.get(watch.status, ()))
        ]
        known = [set(one) for one in lists if one]
        allowed = set.intersection(*known) if known else set()
    if not allowed or status.type == "bool":
        return [
            fine(
                watch.name,
                "words",
                f"no list in the database says which words {watch.status} may hold",
            )
        ]
    findings = [*_unknown(watch, allowed, by), *_unmapped(watch, allowed)]
    return findings or [fine(watch.name, "words", f"the words are those of {by}")]


def _unknown(watch: Watch, allowed: set[str], by: str) -> Iterable[Finding]:
    for state, mapped in watch.words.items():
        for at, word in enumerate(mapped):
            if str(word) in allowed:
                continue
            near = difflib.get_close_matches(str(word), allowed, 1, 0.7)
            do = f"Write {near[0]!r}" if near else f"Take it out, or let {by} allow it"
            if by == "the enum" or (at == 0 and state not in READ_ONLY):
                why = (
                    "comparing with it is an error"
                    if by == "the enum"
                    else f"a task that becomes {state} is refused"
                )
                yield _word(
                    watch, BREAKS, f"{by} does not know {word!r} ({state})", f"{why}.", f"{do}."
                )
            else:
                yield _word(
                    watch,
                    WARNS,
                    f"{by} does not know {word!r} ({state})",
                    "no task ever has it.",
                    f"{do}.",
                )


def _unmapped(watch: Watch, allowed: set[str]) -> Iterable[Finding]:
    mapped = {str(word) for words in watch.words.values() for word in words}
    if left := sorted(allowed - mapped):
        fact = f"no state of the watch has {', '.join(map(repr, left))}"
        why = "a task with such a word is never swept, and nobody is told."
        yield _word(
            watch, WARNS, fact, why, "Give each a state; `resting` for what waits for a person."
        )


def _word(watch: Watch, level: str, fact: str, why: str, do: str) -> Finding:
    return Finding(watch.name, level, "words", fact, why, do)
