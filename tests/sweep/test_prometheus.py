"""What a Prometheus scrapes, and that the rules of infra/alerts hold for it as they are: promtool
judges what was scraped each minute."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from functions.sweep import prometheus
from tests.conftest import copied
from tests.promtool import promtool
from tests.sql import pass_time
from tests.sweep.steps import sweep

RULES = Path(__file__).parents[2] / "infra" / "alerts" / "rules.yaml"
BEGIN = datetime(2026, 3, 1, 9, 20, tzinfo=UTC)
"""The hour is over twice in the two hours that follow."""
MINUTES = 130
SERIES = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{.*\})?) ([-+.e0-9]+)")


@pytest.fixture(scope="module")
def store(postgres: Postgres, template: str) -> Iterator[PostgresStore]:
    with copied(postgres, template) as dsn:
        made = PostgresStore(dsn)
        made.dsn = dsn  # type: ignore[attr-defined] # for the connection beside it
        yield made
        made.close()


@pytest.fixture
def db(store: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        for table in ("tasks", "unstuck.attempts", "unstuck.sweeps"):
            connection.execute(f"delete from {table}".encode())
        yield connection


def ended(db: psycopg.Connection[Any], outcome: str, minutes: range, every: int, rows: int) -> None:
    """`rows` attempts that ended so in every n-th of these minutes."""
    db.execute(
        """
        insert into unstuck.attempts (watch, task_id, number, tries, kind, token, worker,
          started_at, lease, lease_until, deadline_at, beat_at, ended_at, outcome, reason)
        select 'tasks', gen_random_uuid()::text, 1, 1, 'image', gen_random_uuid(), 'w',
          at, '30 s', at, at, at, at, %(outcome)s, 'handler_error'
        from generate_series(%(first)s::int, %(last)s::int, %(every)s::int) m,
          generate_series(1, %(rows)s::int),
          lateral (select %(begin)s + m * interval '1 minute' - interval '9 s' as at) a
        """,
        {
            "outcome": outcome,
            "first": minutes.start,
            "last": minutes.stop,
            "every": every,
            "rows": rows,
            "begin": BEGIN,
        },
    )


def swept(db: psycopg.Connection[Any], minutes: range, overdue: float = 0.0) -> None:
    """A good run in each of these minutes."""
    db.execute(
        """
        insert into unstuck.sweeps (by, started_at, until, ended_at, ok, counts, run)
        select 'test', at, at, at, true, jsonb_build_object('complete', true, 'suspended', 0,
          'unsweepable', 0, 'redispatched', 0, 'oldest_overdue_seconds', %s::float8,
          'oldest_pending_seconds', 0), gen_random_uuid()
        from generate_series(%s::int, %s::int) m,
          lateral (select %s + m * interval '1 minute' - interval '20 s' as at) a
        """,
        (overdue, minutes.start, minutes.stop, BEGIN),
    )


def scraped(db: psycopg.Connection[Any]) -> dict[str, list[float | None]]:
    """What was scraped in each minute, by series."""
    series: dict[str, list[float | None]] = defaultdict(lambda: [None] * MINUTES)
    for minute in range(MINUTES):
        at = BEGIN + timedelta(minutes=minute)
        (answer,) = db.execute("select unstuck.metrics('{tasks}', '', %s)", (at,)).fetchone() or ()
        text = prometheus.written(prometheus.counts(answer, ["tasks"], 180.0))
        for line in text.splitlines():
            if match := SERIES.fullmatch(line):
                series[match[1]][minute] = float(match[2])
    return series


def firing(db: psycopg.Connection[Any], tmp_path: Path, minute: int) -> set[str]:
    """The alerts that promtool finds at that minute."""
    values = {
        name: " ".join("_" if value is None else f"{value:.15g}" for value in listed)
        for name, listed in scraped(db).items()
    }
    (tmp_path / "rules.yaml").write_text(RULES.read_text(encoding="utf-8"), encoding="utf-8")
    alerts = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    series = [{"series": name, "values": listed} for name, listed in values.items()]
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
                    for alert in alerts
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    done = promtool("test", "rules", tmp_path / "test.yaml")
    output = done.stdout + done.stderr
    found = set(re.findall(r"alertname: ?(\w+)", output))
    assert done.returncode == 0 or found, output
    return found


def test_two_healthy_hours_raise_no_alert(db, tmp_path):
    swept(db, range(MINUTES))
    ended(db, "completed", range(MINUTES), 1, 3)
    assert firing(db, tmp_path, 128) == set()


def test_failures_raise_the_alert_of_failures_and_no_other(db, tmp_path):
    swept(db, range(MINUTES))
    ended(db, "completed", range(MINUTES), 1, 3)
    ended(db, "failed", range(90, MINUTES), 1, 3)
    assert (
        {"TaskFailureBurnFast"}
        <= firing(db, tmp_path, 128)
        <= {"TaskFailureBurnFast", "TaskFailureBurnMedium", "TaskFailureBurnSlow"}
    )


def test_a_sweep_that_stops_raises_its_alert(db, tmp_path):
    swept(db, range(90))
    ended(db, "completed", range(MINUTES), 1, 3)
    assert firing(db, tmp_path, 128) == {"SweepSilent", "SweepIncomplete"}


def test_a_task_that_stays_overdue_raises_its_alert(db, tmp_path):
    swept(db, range(MINUTES), overdue=2000.0)
    ended(db, "completed", range(MINUTES), 1, 3)
    assert firing(db, tmp_path, 128) == {"TaskOverdue"}


def test_no_end_is_counted_twice_or_lost_when_an_hour_is_over(db):
    ended(db, "completed", range(1, MINUTES), 1, 1)
    total = 0.0
    for name, values in scraped(db).items():
        if "task_finished" in name and 'state="completed"' in name and 'by="guard"' in name:
            before = 0.0
            for value in values:
                total += value - before if (value or 0) >= before else value or 0
                before = value or 0
    assert total == MINUTES - 1


def test_each_line_is_one_of_the_text_format_and_each_gauge_is_there(store, db):
    task = store.create(load().watch(), 'a "kind"\\ of\nits own', {}).task_id
    store.claim(load().watch(), task, "w")
    pass_time_of(db, 31)
    sweep(store, load())
    store.claim(load().watch(), store.create(load().watch(), "image", {}).task_id, "w")
    text = prometheus.text(store, load(), load().watches.values())
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith("# ") or SERIES.fullmatch(line), line
    for name in prometheus.HELP:
        assert f"# TYPE {name} " in text, name


BORROWED = re.compile(
    rf"{prometheus.LOGGED}\w+ "
    "(counter metrics should have \"_total\" suffix|metric names should not contain ':')"
)
"""What promtool finds of names that are Cloud Monitoring's: the rules read them as they are."""


def test_promtool_has_nothing_to_say_of_our_own_names(store, db):
    swept(db, range(2))
    db.execute("update unstuck.sweeps set started_at = clock_timestamp(), ended_at = null")
    store.create(load().watch(), "image", {})
    text = prometheus.text(store, load(), load().watches.values())
    checked = promtool("check", "metrics", read=text)
    assert "error while linting" not in checked.stderr, checked.stderr
    findings = (checked.stdout + checked.stderr).splitlines()
    assert [one for one in findings if not BORROWED.fullmatch(one)] == []
    worse = promtool("check", "metrics", read="# TYPE unstuck_a counter\nunstuck_a 1\n")
    assert not BORROWED.search(worse.stdout + worse.stderr)
    assert worse.returncode != 0, "it finds nothing"


def pass_time_of(db: psycopg.Connection[Any], seconds: float) -> None:
    from tests.sql import install_clock

    install_clock(db)
    pass_time(db, seconds)
