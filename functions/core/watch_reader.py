"""How a watch is read from policy.yaml, and what is refused since its parts do not fit together."""

import os
import re
from typing import Any

from functions.core.rule import Address, read_rules
from functions.core.states import ENDED, State
from functions.core.watch import HOOKS, OPTIONAL, VARIABLE, WATCH, Watch
from functions.core.yaml_lines import Value

LONGEST_NAME = 40
NAME_PATTERN = "[a-z_][a-z0-9_]{0,39}"


def installation_of(table: Value) -> str:
    """The values of the variables that the name of a table has: `dev` of `tasks_${STAGE}`."""
    values = [os.environ[match[1]] for match in VARIABLE.finditer(table.text())]
    return "_".join(dict.fromkeys(map(as_name, values)))


def as_name(text: str) -> str:
    """As a part of a name of SQL functions."""
    return re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")


def read_watch(
    name: str,
    value: Value,
    lease: float,
    installation: str = "",
    addresses: dict[str, Address] | None = None,
) -> Watch:
    """The watch of that name. Its own name has the installation, or the variables of its table:
    two stages in one database have functions, triggers and ledgers of their own. Raises
    PolicyError."""
    if not re.fullmatch(NAME_PATTERN, name):
        value.fail(
            "must be named by a-z, 0-9 and _ (40 at most): SQL functions are named after a watch. "
            "Rename it."
        )
    attributes = WATCH.read(value)
    priority = value["columns"].get("priority")
    if priority and priority.is_mapping and (end := priority.get("first")):
        if "urgent" in attributes:
            end.fail("is said by `urgent` too. Remove one of the two.")
        attributes["urgent"] = end.choice("highest", "lowest")
    attributes["words"] = dict.fromkeys(State, ()) | attributes["words"]
    attributes["rules"] = read_rules(attributes["rules"], lease)
    if attributes.get("own"):
        attributes.setdefault("fence", "enforce")
    own_part = as_name(installation) or installation_of(value["table"])
    full_name = f"{name}_{own_part}" if own_part else name
    if len(full_name) > LONGEST_NAME:
        value.fail(
            f"is called {full_name} with its installation: 40 characters at most. Shorten it."
        )
    attributes["hooks"] = _hooks(full_name, attributes)
    watch = Watch(
        name=full_name, written=name, installation=own_part, addresses=addresses or {}, **attributes
    )
    _check_words(value, watch)
    _check_parts(value, watch)
    if "$$" in repr(watch):
        value.fail(
            "has $$ in a name or a word, at which the body of an SQL function would end. "
            "Use another."
        )
    return watch


def _hooks(name: str, attributes: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """All hooks of a watch, those of its optional parts first."""
    hooks = {}
    for hook in HOOKS:
        parts = [part for part in attributes.get("optional", ()) if hook in OPTIONAL[part]]
        functions = tuple(f"unstuck.{name}_{part}_{hook}" for part in parts)
        functions += attributes.get("hooks", {}).get(hook, ())
        if functions:
            hooks[hook] = functions
    return hooks


def _check_words(value: Value, watch: Watch) -> None:
    words = value["words"]
    state_by_word: dict[Any, State] = {}
    for name, listed in words.items():
        state = State(name)
        if state in watch.marks:
            continue
        for word in watch.words[state]:
            other = state_by_word.get(word)
            both_ended = isinstance(word, bool) and {state, other} <= ENDED
            if other and not both_ended:  # a flag tells no more than that a task ended
                listed.fail(
                    f"the word {word!r} stands for {other} already. Give each word one state, or "
                    "name the column that tells them apart under `marks`."
                )
            state_by_word[word] = state
    for state in (State.RUNNING, State.FAILED):
        if not watch.words[state]:
            words.fail(f"has no word for {state}. Add `{state}: [...]`.")
    if watch.own and not (watch.may_wait and watch.words[State.COMPLETED]):
        words.fail(
            "has no word for pending or completed, which a table of our own needs. Add both."
        )
    for kind, rule in watch.rules.items():
        if rule.attempts > 1 and not watch.may_wait:
            value["rules"].fail(
                f"{kind}: attempts is {rule.attempts}, but there is no word for pending, so that "
                "no task can be tried again. Write `attempts: 1`, or add `pending: [...]` to "
                "`words`."
            )


def _check_parts(value: Value, watch: Watch) -> None:
    """What of a watch needs another part of it."""
    _check_writes(value, watch)
    if unknown := set(watch.stopping) - set(watch.words[State.RUNNING]):
        value["stopping"].fail(
            f"names {', '.join(map(str, unknown))}, which words.running does not. Add it there."
        )
    if watch.columns.get("result") in watch.marks.values():
        value["marks"].fail(
            "names the column of the result, which may stay empty. Name a time or a flag."
        )
    for name in ("queued", "alive") if watch.may_wait else ("alive",):
        if not watch.clocks.get(name) and watch.fence != "observe":
            (value.get("clocks") or value).fail(
                f"lacks `{name}`: without it nobody can tell how long a task has been waiting or "
                "silent. Add it, or let a trigger see to it: `fence: observe`."
            )
    if watch.own and watch.urgent == "lowest":
        (value.get("urgent") or value["columns"]).fail(
            "is `lowest`, but the index of our own table has the highest priority first. Remove it."
        )
    if watch.retains and not (watch.own or (watch.deletes and watch.clocks.get("finished"))):
        value["rules"].fail(
            "names a `retention`, but the table is not our own. Add `deletes: true` and "
            "clocks.finished to the watch, or remove it."
        )
    if watch.create_per_minute is not None and not watch.own:
        value["limits"].fail(
            "needs `own: true`: tasks of another table are not created by Unstuck. Remove it."
        )
    if "on_created" not in watch.hooks and any(rule.cost_at_most for rule in watch.rules.values()):
        value["rules"].fail(
            "has a `cost`, but nothing takes it. Add `optional: [credits]` to the watch, or a hook "
            "`on_created`."
        )


def _check_writes(value: Value, watch: Watch) -> None:
    """No move may write a column twice: the database refuses each such write (42601), or one of the
    two is lost."""
    started, touched = watch.clocks.get("started", ())[:1], watch.clocks.get("touched", ())
    for state, columns in watch.also.items():
        written = {watch.key, watch.status, *touched}
        if state == State.RUNNING:
            written |= set(started)
        else:
            written |= {watch.columns[role] for role in ("result",) if role in watch.columns}
        if twice := sorted(written.intersection(columns)):
            value["also"][str(state)].fail(
                f"names {', '.join(twice)}, which a move to {state} writes already (key, status, "
                "result or a clock). Remove it here."
            )
