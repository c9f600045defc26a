"""The evaluator of log filters: what it says of entries is what Cloud Logging says, and what it
does not know it refuses."""

import re

import pytest

from tests.chain.query import QueryError, compiled, matches

ENTRY = {
    "severity": "WARNING",
    "timestamp": "2026-08-01T12:00:00Z",
    "logName": "projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem",
    "textPayload": "Container terminated on signal 9.",
    "resource": {"type": "cloud_run_revision", "labels": {"service_name": "unstuck-worker"}},
    "labels": {"run.googleapis.com/x": "Y"},
    "jsonPayload": {
        "event": "task_finished",
        "state": "Failed",
        "tries": 3,
        "late": 1.5,
        "cause": None,
        "held": True,
    },
}

TRUE = [
    'resource.type="cloud_run_revision"',
    'resource.type = "CLOUD_run_revision"',  # strings compare without regard to case
    "resource.type=cloud_run_revision",
    'resource.type="cloud_run_revision" AND jsonPayload.event="task_finished"',
    'resource.type="cloud_run_revision" jsonPayload.event="task_finished"',  # side by side: AND
    'resource.type="cloud_run_revision"\n-- a comment "AND\njsonPayload.event="task_finished"',
    'jsonPayload.event=("x" OR "task_finished")',
    'jsonPayload.event="x" OR jsonPayload.event="task_finished"',
    'NOT jsonPayload.event="x"',
    'NOT jsonPayload.nothing="x"',
    'NOT (jsonPayload.event="x" OR jsonPayload.state="completed")',
    'jsonPayload.state!="completed"',
    'jsonPayload.state:"ail"',
    'logName:"varlog%2Fsystem"',
    r'textPayload=~"^Container terminated on signal [^01]+\.$"',
    r'textPayload=~"^Container terminated on signal [^01]+\\.$"',
    'textPayload=~"signal"',
    'textPayload!~"SIGNAL"',  # a regular expression regards case
    'labels."run.googleapis.com/x"="y"',
    "severity>=WARNING",
    "severity<ERROR",
    'severity="WARNING"',
    'timestamp>="2026-08-01T12:00:00+00:00"',
    'timestamp<"2026-08-01T14:00:01.5+02:00"',
    "jsonPayload.tries>=3",
    "jsonPayload.tries<10",  # as numbers
    "jsonPayload.tries!=abc",
    "jsonPayload.late>1.25",
    "jsonPayload.held=true",
    # OR binds more than AND: (true OR true) AND (false OR true)
    'severity=ERROR OR severity=WARNING AND jsonPayload.event=x OR jsonPayload.state="failed"',
]
FALSE = [
    'resource.type="cloud_scheduler_job"',
    'resource.type="cloud_run_revision" AND jsonPayload.event="x"',
    'resource.type="cloud_run_revision" jsonPayload.event="x"',
    'jsonPayload.event="task"',
    'jsonPayload.event=("x" OR "y")',
    'NOT jsonPayload.event="task_finished"',
    'jsonPayload.nothing="x"',
    'jsonPayload.nothing!="x"',  # a field that is not there fails all comparisons
    'jsonPayload.event.deeper="x"',
    'jsonPayload.cause="lease_lost"',
    'jsonPayload.cause!="lease_lost"',
    'textPayload=~"^signal"',
    'textPayload=~"container"',
    "severity>=ERROR",
    'timestamp<"2026-08-01T12:00:00Z"',
    "jsonPayload.tries>3",
    "jsonPayload.late>1.75",
    # (true OR true) AND false: with AND before OR it would be true
    "severity=WARNING OR severity=ERROR AND jsonPayload.event=x",
]
REFUSED = {
    '"the cat in the hat"': "searches of all fields",
    "event=task_finished": "no field 'event'",
    "jsonpayload.event=x": "no field 'jsonpayload'",
    'SEARCH("x")': "no field 'SEARCH'",
    'log_id("stdout")': "no field 'log_id'",
    "jsonPayload.event:*": "unknown",
    "-severity=ERROR": "unknown",
    "severity>=error": "none of DEFAULT",
    'severity=~"ERR"': "none of DEFAULT",
    'timestamp>="yesterday"': "RFC 3339",
    'timestamp>="2026-08-01T12:00:00"': "needs a zone",
    'timestamp:"2026"': "RFC 3339",
    "jsonPayload.event": "too soon",
    "jsonPayload.event=": "too soon",
    "": "too soon",
    "(severity=ERROR": "')' should come",
    "severity=ERROR)": "doing here",
    "severity=(ERROR AND INFO)": "')' should come",
    "severity=ERROR AND": "too soon",
    "severity=ERROR OR AND severity=INFO": "a field should stand",
    'textPayload=~"(a"': "unterminated",
    'textPayload=~"a(?=b)"': "RE2",
    r'textPayload=~"(a)\\1"': "RE2",
    "jsonPayload.a=jsonPayload.b": "no value",
    'jsonPayload.event="unclosed': "unknown",
    "jsonPayload.event='x'": "unknown",
    "x" * 20_001: "the most",
}


@pytest.mark.parametrize("query", TRUE)
def test_a_filter_takes_what_it_names(query):
    assert matches(query, ENTRY)


@pytest.mark.parametrize("query", FALSE)
def test_a_filter_leaves_the_rest(query):
    assert not matches(query, ENTRY)


@pytest.mark.parametrize("query", REFUSED, ids=[query[:40] or "nothing" for query in REFUSED])
def test_what_it_does_not_know_is_refused(query):
    with pytest.raises(QueryError, match=re.escape(REFUSED[query])):
        compiled(query)


def test_a_comparison_with_a_whole_object_is_refused():
    with pytest.raises(QueryError, match="name a field in it"):
        matches('jsonPayload:"x"', ENTRY)
