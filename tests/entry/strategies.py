"""Whatever is sent, it is never our error: what hypothesis sends."""

import datetime
import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.entry.steps import NOBODY

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([NOBODY, "returns"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = {
    name: st.just(usual) | ANYTHING
    for name, usual in {
        "kind": "returns",
        "input": {},
        "priority": 1,
        "scheduled_at": "2030-01-01T00:00:00Z",
        "idempotency_key": "k",
        "watch": "tasks",
        "task_id": NOBODY,
    }.items()
}
TIMES = st.datetimes(timezones=st.timezones()).map(datetime.datetime.isoformat)
OBJECTS = st.fixed_dictionaries(
    {}, optional=FIELDS | {"scheduled_at": FIELDS["scheduled_at"] | TIMES}
)
BODIES = (
    st.binary()
    | st.text().map(str.encode)
    | (OBJECTS | ANYTHING).map(lambda one: json.dumps(one).encode())
)
FUZZ = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
