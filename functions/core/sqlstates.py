"""The classes of SQLSTATE (its first two characters) that say nothing about the row or the call:
the same statement may succeed later. The one list, for Python and, by the template of rules.sql,
for SQL."""

PASSING = {
    "08": "The connection broke.",
    "40": "A deadlock, or a serialization failure.",
    "53": "The server lacks memory, disk or connections.",
    "55": "Somebody holds a lock, or uses the object.",
    "57": "The statement was cancelled, or the server shuts down.",
    "58": "An error of the system outside PostgreSQL, such as of its disk.",
    "XX": "An internal error; poolers report their own failures so.",
}
