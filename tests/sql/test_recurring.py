"""A recurring task is a recipe of docs/how-to/order-and-limits.md: here it is run as it is written
there."""

import re
from pathlib import Path

import psycopg

RECIPE = Path(__file__).parents[2] / "docs" / "how-to" / "order-and-limits.md"


def test_the_task_of_a_day_is_created_once_however_often_its_schedule_fires(database):
    pattern = r"cron\.schedule\('daily-report'.*?\$\$(.*?)\$\$"
    match = re.search(pattern, RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    with psycopg.connect(database, autocommit=True) as db:
        answers = [db.execute(match[1].encode()).fetchone()[0] for _ in range(3)]
        assert [answer["verdict"] for answer in answers] == ["created", "exists", "exists"]
        assert len({answer["task_id"] for answer in answers}) == 1
        tomorrow = match[1].replace("current_date", "(current_date + 1)")
        assert db.execute(tomorrow.encode()).fetchone()[0]["verdict"] == "created"
        assert db.execute("select count(*) from tasks").fetchone() == (2,)
