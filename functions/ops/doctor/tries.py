"""Each action of the verbs, really tried on a task of each word, in a transaction that is rolled
back: only the table's own CHECKs, triggers, types and indexes know what they refuse."""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from functions.core.policy import Watch
from functions.core.states import State
from functions.ops.doctor.actions import Bench, Refused, Unfit, actions
from functions.ops.doctor.finding import Finding, breaks, fine, warns
from functions.ops.doctor.session import rolled_back
from functions.ops.inspect.session import Connection, one_line

CURES = {
    "22001": "State the column's width in `types` of the watch (`varchar(64)`), or widen it.",
    "22P02": "Write the words as the enum has them.",
    "23502": "Let the column be NULL, or have a default.",
    "23505": "Leave the ended words out of the unique index.",
    "23514": "Let the CHECK allow the move, or write under `also` what else it must set.",
    "25006": "Give the --dsn of a server, and of a role, that writes.",
    "42501": "Grant it to the role of the deployment, or let the trigger pass it (`jwt_role`).",
    "55P03": "Somebody holds the row or the table: try again.",
    "57014": "Create the index that is missing, or try again at a quieter time.",
    "P0001": "Let the trigger pass the role of the deployment (`jwt_role`), or write under `also` "
    "what it asks for.",
}
OTHERWISE = (
    "Mend what the message names: the table's rule, or the names, words and types of the watch."
)


@dataclass(frozen=True)
class Try:
    state: State
    word: object
    action: str
    error: str = ""
    code: str = ""
    untried: str = ""


def not_installed(watch: Watch) -> Finding:
    why = "what the table refuses is only known by trying."
    do = "Run `migrate --apply`, then `doctor` again."
    return warns(watch.name, "tries", "nothing was tried: the verbs are not installed", why, do)


def try_actions(connection: Connection, watch: Watch) -> list[Finding]:
    bench = Bench(connection, watch)
    findings = [*_reads(bench)]
    tries = [
        attempt
        for state in actions(watch)
        for word in watch.words[state]
        for attempt in _word(bench, state, word)
    ]
    return findings + _failures(watch, tries) + _untried(watch, tries) + _summary(watch, tries)


def _reads(bench: Bench) -> Iterator[Finding]:
    """What a sweep looks for, and what a person asks for."""
    for verb, arguments in (
        ("preview", {"p_rules": bench.watch.rules_json}),
        ("overview", {"p_rules": bench.watch.rules_json}),
        ("find", {"p_filter": "{}", "p_limit": 1}),
    ):
        try:
            with rolled_back(bench.connection):
                bench.verb(verb, **arguments)
        except psycopg.Error as error:
            reader = "a sweep" if verb == "preview" else verb
            fact = f"{reader} cannot read {bench.watch.table}: {with_code(error)}"
            why = "it finds nothing that is stuck."
            yield breaks(
                bench.watch.name, "tries", fact, why, CURES.get(error.sqlstate or "", OTHERWISE)
            )


def _word(bench: Bench, state: State, word: object) -> Iterator[Try]:
    """The actions on one task of this word: a real one where there is one, else one that is made
    so."""
    for name, action in actions(bench.watch)[state].items():
        try:
            with rolled_back(bench.connection):
                action(bench, bench.locked_task(state, word))
            yield Try(state, word, name)
        except Unfit as error:
            yield Try(state, word, name, untried=str(error))
        except Refused as error:
            yield Try(state, word, name, error=str(error))
        except psycopg.Error as error:
            yield Try(state, word, name, with_code(error), error.sqlstate or "")


def _failures(watch: Watch, tries: list[Try]) -> list[Finding]:
    """One finding for each word and error."""
    failed: dict[tuple[object, str, str], list[str]] = {}
    for attempt in tries:
        if attempt.error:
            failed.setdefault((attempt.word, attempt.error, attempt.code), []).append(
                attempt.action
            )
    return [
        breaks(
            watch.name,
            "tries",
            f"on a task that is {word!r}, these fail: {', '.join(actions)}. {error}",
            "such a task stays as it is, and its worker or the sweep fails each time.",
            CURES.get(code, OTHERWISE),
        )
        for (word, error, code), actions in failed.items()
    ]


def _untried(watch: Watch, tries: list[Try]) -> list[Finding]:
    missed: dict[tuple[object, str], list[str]] = {}
    for attempt in tries:
        if attempt.untried:
            missed.setdefault((attempt.word, attempt.untried), []).append(attempt.action)
    return [
        warns(
            watch.name,
            "tries",
            f"on a task that is {word!r}, {', '.join(actions)} was not tried: {why}",
            "what the table refuses is only known by trying.",
            "Run `doctor` again when there is such a task.",
        )
        for (word, why), actions in missed.items()
    ]


def _summary(watch: Watch, tries: list[Try]) -> list[Finding]:
    well = [attempt for attempt in tries if not attempt.error and not attempt.untried]
    words = ", ".join(dict.fromkeys(repr(attempt.word) for attempt in well))
    return (
        [fine(watch.name, "tries", f"{len(well)} actions work, tried on tasks that are {words}")]
        if well
        else []
    )


def with_code(error: psycopg.Error) -> str:
    """The database's own words, on one line, with the code."""
    return f"{one_line(error)} ({error.sqlstate})" if error.sqlstate else one_line(error)
