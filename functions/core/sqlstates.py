"""What an error of the database means. The one list, for both stores, for the commands and, by the
template of rules.sql, for SQL: the classes of PostgreSQL's SQLSTATEs (their first two characters),
the codes of PostgREST, and the HTTP statuses of what stands before it.

Only an error about the row may end a task, because no repetition changes it. Weather is asked
again until the time is over. A configuration error is told at once, since a person has to act; it
ends no task either, because the work was not at fault."""

from enum import Enum


class Meaning(Enum):
    ROW = "the database refuses what is written, each time"
    WEATHER = "the same call may succeed later, perhaps on another connection"
    CONFIGURATION = "a person has to change the database, its rights, its functions or the URL"


_ROW, _WEATHER, _CONFIGURATION = Meaning.ROW, Meaning.WEATHER, Meaning.CONFIGURATION
CLASSES = {
    "00": (_WEATHER, "It says success: whoever calls that an error is confused."),
    "01": (_WEATHER, "A warning, which refuses nothing."),
    "02": (_WEATHER, "No data, which refuses nothing."),
    "03": (_WEATHER, "An earlier statement of the connection is not complete."),
    "08": (_WEATHER, "The connection broke; PgBouncer reports its own failures so."),
    "09": (_CONFIGURATION, "A trigger of the table failed in its own way."),
    "0A": (_WEATHER, "Not supported; so is a plan that an ALTER TABLE made stale."),
    "0B": (_WEATHER, "The connection is in a transaction that somebody else began."),
    "0F": (_CONFIGURATION, "A function uses a wrong locator."),
    "0L": (_CONFIGURATION, "A grant is wrong."),
    "0P": (_CONFIGURATION, "The role is not valid."),
    "0Z": (_CONFIGURATION, "A function asks for diagnostics where there are none."),
    "10": (_CONFIGURATION, "A function's XQuery is wrong."),
    "20": (_CONFIGURATION, "A function's CASE lacks a branch."),
    "21": (_CONFIGURATION, "A function's subquery gives more rows than it may."),
    "22": (_ROW, "A value that its column, or a function, cannot take."),
    "23": (_ROW, "A constraint of the table refuses the row."),
    "24": (_WEATHER, "The state of a cursor: the session was changed by a pooler."),
    "25": (_WEATHER, "A read-only server, as after a failover; or a transaction that is not ours."),
    "26": (_WEATHER, "A prepared statement is not there: the session was changed by a pooler."),
    "27": (_CONFIGURATION, "A trigger changes the row that is being written."),
    "28": (_CONFIGURATION, "The role or its password is refused."),
    "2B": (_CONFIGURATION, "Rights depend on another right."),
    "2D": (_CONFIGURATION, "A function ends a transaction that it may not end."),
    "2F": (_CONFIGURATION, "A function failed in its own way."),
    "34": (_WEATHER, "A cursor is not there: the session was changed by a pooler."),
    "38": (_CONFIGURATION, "A function in another language failed."),
    "39": (_CONFIGURATION, "A function in another language was called wrongly."),
    "3B": (_CONFIGURATION, "A function uses a savepoint that is not there."),
    "3D": (_CONFIGURATION, "There is no such database."),
    "3F": (_CONFIGURATION, "There is no such schema."),
    "40": (_WEATHER, "A deadlock, or a serialization failure."),
    "42": (_CONFIGURATION, "A function, table, column or right is missing; so is a row policy's."),
    "44": (_ROW, "The view through which the row is written refuses it."),
    "53": (_WEATHER, "The server lacks memory, disk or connections."),
    "54": (_ROW, "The value is too large or too deep for PostgreSQL."),
    "55": (_WEATHER, "Somebody holds a lock, or uses the object."),
    "57": (_WEATHER, "The statement was cancelled, or the server shuts down."),
    "58": (_WEATHER, "An error of the system outside PostgreSQL, such as of its disk."),
    "72": (_WEATHER, "The snapshot is too old."),
    "F0": (_WEATHER, "The server's configuration file is being changed."),
    "HV": (_WEATHER, "The server behind a foreign table does not do its part."),
    "P0": (_ROW, "A function refuses, by RAISE or by an assertion: so do hooks and triggers."),
    "XX": (_WEATHER, "An internal error; Supavisor reports its own failures so."),
}
"""By Appendix A of PostgreSQL's documentation. A class that is not in it is the own code of a hook
or a trigger, which refuses the row."""
CODES = {"42P05": (_WEATHER, "A prepared statement is there twice: a pooler changed the session.")}
"""Codes that mean something else than their class."""
POSTGREST = {
    "0": (_WEATHER, "It has no connection to the database, or does not know its schema yet."),
    "1": (_CONFIGURATION, "The request is none: a schema is not exposed, a URL is wrong."),
    "2": (_CONFIGURATION, "A function is not there, or its schema cache is stale."),
    "3": (_CONFIGURATION, "The key is refused."),
    "X": (_WEATHER, "An internal error."),
}
"""By the group of the code, the sixth character of `PGRST202`."""
HTTP_STATUSES = {
    "408": (_WEATHER, "A gateway waited too long for the request."),
    "413": (_ROW, "A gateway finds the body too large."),
    "425": (_WEATHER, "A gateway does not take the request yet."),
    "429": (_WEATHER, "Too many requests."),
}
"""Besides these, 4xx is configuration and the rest weather."""
LOCKS_AND_LIMITS = {"40001", "40P01", "55P03", "57014"}
"""The statement met a lock or a limit: its connection is as good as a new one."""


def meaning_of(code: str) -> Meaning:
    """Of a SQLSTATE, a code of PostgREST, or an HTTP status."""
    if code in CODES:
        return CODES[code][0]
    if code.startswith("PGRST") and len(code) > 5:
        return POSTGREST.get(code[5], (_CONFIGURATION,))[0]
    if len(code) == 5:
        return CLASSES.get(code[:2], (_ROW,))[0]
    if code in HTTP_STATUSES:
        return HTTP_STATUSES[code][0]
    is_passing_status = code.isdigit() and not code.startswith("4")
    return _WEATHER if is_passing_status else _CONFIGURATION


def sqlstates_of_weather() -> list[str]:
    """Classes and whole codes."""
    meanings = CLASSES | CODES
    return [code for code, (meaning, _) in meanings.items() if meaning is _WEATHER]
