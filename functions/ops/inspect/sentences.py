"""All sentences for a person about a table, in one place. Each ends with the next step.

A doubt belongs to a key of the mapping, and is gone when a person has given that key in a --map
file."""

from collections.abc import Iterable
from typing import Any

Doubt = tuple[str, str]
"""The key of the mapping in doubt, and the sentence."""

DOUBTS = {
    "key": "the primary key is ({key}); {name} alone is taken, since the database makes it up. If "
    "not: --map FILE (key).",
    "unique": "there is no primary key; {name} is taken, which is unique. If not: --map FILE "
    "(key).",
    "other_status": "{others} might be the status as well as {name}. If so: --map FILE (status).",
    "status": "{name} is taken for the status. If it is another: --map FILE (status).",
    "word": "{name}: {text}. If not: --map FILE (words).",
    "assumed": "{name} is free text, and nothing in the table shows its words for {states}: the "
    "usual ones are assumed. Say which with --map FILE ({keys}).",
    "free_text": "{name} is free text: a word that does not occur now is not known. Say all with "
    "--map FILE (words).",
    "numbers": "{name} holds {shown} ({values}), and nothing tells what they mean. Say it with "
    "--map FILE, such as words: {{pending: [1], running: [2], completed: [3], failed: [4]}}.",
    "flag": "{name} is a flag: true is read as running, false as not running, whether the task "
    "waits or has ended. Nothing is said of tasks that wait. If it means something else: --map "
    "FILE (words).",
    "null": "{name} may be NULL, and no word says that a task waits: tasks without a status are "
    "not looked at. If they wait, let them have a word, and say it with --map FILE "
    "(words.pending).",
    "strange": "{words} of --map is left out: {name} can only be {labels}. Mend words in the file.",
    "no_error": "no column takes the reason of a failure: --fix sets the status and nothing says "
    "why. If there is one: --map FILE (error).",
    "error": "{name} is taken for the reason of a failure. If it is not: --map FILE (error, or "
    "null for none).",
    "role": "{name} is taken for {meaning}. If it is not: --map FILE ({role}, or null for none).",
    "kind": "{name} is taken for the kind of a task. If it is not: --map FILE (kind).",
    "born": "no column says when a task was created; {name} is taken, since it is set at birth. "
    "If not: --map FILE (clocks.queued).",
    "started": "{name} is taken for the time at which the work starts. If not: --map FILE "
    "(clocks.started).",
    "finished": "{name} is taken for the time of the end. If not: --map FILE (clocks.finished).",
    "no_life": "no column proves that a running task is alive: it is judged by {name} alone, so a "
    "healthy task that takes longer would be ended. Give --older-than more than the longest "
    "takes, or --map FILE (clocks.alive).",
    "no_time": "no column tells any time: nobody can say since when a task runs. Name one with "
    "--map FILE (clocks), or a task with --job-id.",
    "not_moved": "no trigger moves {name}: it proves life only where the workers write it. If "
    "they don't: --older-than with more than the longest task takes, or --map FILE (clocks.alive).",
    "no_queued": "no column tells since when a task waits: {instead}. If there is one: --map FILE "
    "(clocks.queued).",
    "zone": "{names}: no time zone, and this database's is {zone}. Read as UTC, so ages are wrong "
    "if its sessions write local time. Give --older-than with that much more, or store "
    "timestamptz.",
    "zone_default": "the default of {names} is wrong by the offset of each session that is not in "
    "UTC, and this database's is {zone}: ages of rows that have it are wrong. Make the default "
    "now(). Until then give --older-than with that much more.",
    "expires": "{name} may be the life of the result or the deadline of the task: it is not used. "
    "If it is a deadline: --map FILE (clocks.deadline).",
    "timeout": "{name} limits something else than the run of a task, by its name: it is not used. "
    "If it limits the run: --older-than.",
    "due": "{name} is taken for the time before which a task may not start, since rows that wait "
    "have times of the future there. If it is not: --map FILE (clocks.due).",
    "held": "{name} is taken for the time until which a worker holds its task. If it is not: "
    "--map FILE (clocks.lease).",
    "newer": "{name} is taken for a sign of life, since rows have later times there than at their "
    "birth. If it is not: --map FILE (clocks.alive).",
    "ended": "rows in {words} have {name} set: they are taken for ended. If they wait: --map FILE "
    "(words.pending).",
    "fails": "all rows in {words} have {name} set and no row that waits, runs or ended well has: "
    "they are taken for failed. If they are not: --map FILE (words.failed).",
    "stage": "{words} seems to be the {state} of one stage only: it is read and never written. Say "
    "the general word with --map FILE ({topic}).",
    "learned": "all failed rows have {names} set and no open row has: a failed task gets the same. "
    "If that is wrong, end tasks by hand, or with a --map FILE (words) and adopt.",
    "local": "{names}: no time zone; by the defaults, the newest rows and the zone of the server "
    "they hold the local time of {zone}, and are read so. If they are UTC: give --older-than with "
    "that much more, or store timestamptz.",
    "took": "a running task may give no sign of life for {limit}, and not for 30m: {past}. Give "
    "--older-than for another time.",
    "no_unit": "{name} has no unit: it is not used. Give --older-than.",
    "text_clock": "{name} is {type}, not a time: it is not used as a clock. Store timestamptz, or "
    "name another with --map FILE (clocks).",
    "hidden": "row level security may hide rows of it from this role. Use a role in --dsn that "
    "bypasses it.",
}

TOPICS = {
    "unique": "key",
    "other_status": "status",
    "no_error": "error",
    "born": "clocks.queued",
    "started": "clocks.started",
    "finished": "clocks.finished",
    "no_life": "clocks.alive",
    "no_time": "clocks.alive",
    "not_moved": "clocks.alive",
    "no_queued": "clocks.queued",
    "assumed": "-",
    "expires": "clocks.deadline",
    "due": "clocks.due",
    "held": "clocks.lease",
    "newer": "clocks.alive",
    "ended": "words.pending",
    "fails": "words.failed",
    "free_text": "words",
    "numbers": "words",
    "flag": "words",
}

ROLES = {
    "attempts": "the count of the tries",
    "limit": "the most tries that a task has",
    "input": "what a handler receives",
    "result": "what a handler returns",
}

MORE = "If workers do run these rows, say so with --map FILE (the words of each state)."

REFUSALS = {
    "view": "it is {kind}. Name the table{below} with --table.",
    "unreadable": "this role may not read it. As {owner}: grant select on {table} to the role of "
    "the DSN.",
    "no_status": "no column of it looks like a status. Name it with --map FILE (status, and the "
    "words of each state).",
    "generated": "{name} is made of other columns by the database, so nothing can be written to "
    "it. Give the table a status of its own, and name it with --map FILE (status).",
    "in_json": "no column of it looks like a status. If it stands inside {names}, nothing can "
    "guard it there: give it a column of its own. Else name it with --map FILE (status, and the "
    "words of each state).",
    "composite": "its key is composite ({key}): a task is not named by one value. If one column "
    "is enough, name it with --map FILE (key).",
    "no_key": "it has no primary key and no unique column: a task can't be named. Name the column "
    "that tells rows apart with --map FILE (key).",
    "many": "{name} has too many different values for a status. Name another column with --map "
    "FILE (status).",
    "no_running": "none of its words ({words}) says that a task is running: it seems to be a "
    "table for people. " + MORE,
    "no_failed": "none of its words ({words}) says that a task failed: it seems to be a table for "
    "people. " + MORE,
    "unproven": "its words ({words}) may be those of people as well, and nothing in it is of "
    "workers alone: no error, tries, payload, lock or queue ({columns}). " + MORE,
    "trade_words": "its words ({words}) are those of goods and money, which nobody should end by "
    "their age. " + MORE,
    "trade": "its name and the columns {columns} are those of goods and money, which nobody "
    "should end by their age. " + MORE,
    "people": "the columns {columns} are those of a table for people. " + MORE,
    "free_people": "{name} is free text, and the columns {columns} are those of a table for "
    "people. " + MORE,
    "flag_people": "{name} is a flag, and nothing else in the table tells of workers. " + MORE,
    "nobody": "{name} is free text, and nothing in the table tells of workers. " + MORE,
}


REASONS = {
    "waiting": "{word} for {age}: no worker took it (by {by}; allowed {allowed})",
    "silent": "{word} for {age} without a sign of life (by {by}; allowed {allowed})",
    "lease": "{word}, but its lease ended {ago} ago (by {by})",
    "deadline": "{word}, but its deadline passed {ago} ago (by {by})",
    "beat": "{word} for {age} without a sign of life, longer than it allows itself (by {by})",
    "timeout": "{word} for {ago} longer than it allows itself (by {by})",
    "asked": "{word} for {age}, although its user asked to stop it",
    "undated": "{word}, and no clock tells since when: it was named",
}
"""Why a task is stuck, by the rule that makes it so."""


def doubt(name: str, topic: str = "", /, **values: Any) -> Doubt:
    """A sentence of DOUBTS with the key that it is about: by TOPICS, else the name itself."""
    return topic or TOPICS.get(name, name), DOUBTS[name].format(**values)


def refusal(name: str, /, **values: Any) -> str:
    return REFUSALS[name].format(**values)


SHOWN_WORDS = 12
"""So many words of a list are shown."""


def alternatives(words: Iterable[Any]) -> str:
    """'processing', 'running' or 'in_progress'"""
    *others, last = [repr(word) for word in words][:SHOWN_WORDS] or ["nothing"]
    return f"{', '.join(others)} or {last}" if others else last


def joined(words: Iterable[Any]) -> str:
    return ", ".join(str(word) for word in list(words)[:SHOWN_WORDS])
