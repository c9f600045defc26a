"""The schedules of other platforms in the docs: each is one call or one command, that runs here."""

import configparser
import json
import re
from http.server import HTTPServer
from threading import Thread
from typing import Any

import psycopg
import pytest
import requests
import yaml

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "without-google-cloud.md"
COMMAND = "python -m functions sweep"
SCHEDULE = re.compile(r"(\*|\*/\d+)( \*){4}")


def texts(language: str) -> list[str]:
    return [block.text for block in blocks(PAGE, language)]


def everything(value: Any) -> list[Any]:
    """All that is in a document: each list, and each text."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(part for one in inner for part in everything(one))]


@pytest.mark.parametrize("marker", ["kind: CronJob", "on:\n  schedule"])
def test_a_job_of_another_platform_runs_the_one_command_on_a_schedule(marker):
    (text,) = (text for text in texts("yml") if marker in text)
    parts = everything(yaml.safe_load(text))
    commands = [" ".join(part) for part in parts if isinstance(part, list) and "sweep" in part]
    commands += [part for part in parts if isinstance(part, str) and part.endswith(" sweep")]
    assert COMMAND in commands
    assert any(isinstance(part, str) and SCHEDULE.fullmatch(part) for part in parts)


def test_the_units_of_systemd_run_the_one_command_each_minute():
    units = {}
    for text in texts("ini"):
        unit = configparser.ConfigParser()
        unit.read_string(text)
        units |= {name: dict(unit[name]) for name in unit.sections()}
    assert units["Service"]["execstart"].endswith(f"/{COMMAND}")
    assert units["Timer"]["onunitactivesec"] == "60"


def test_vercel_calls_the_path_and_who_knows_the_secret_alone_sweeps(database, monkeypatch):
    (cron,) = json.loads(texts("json")[0])["crons"]
    assert (cron["path"], bool(SCHEDULE.fullmatch(cron["schedule"]))) == ("/api/sweep", True)
    names: dict[str, Any] = {}
    exec(texts("python")[0], names)
    monkeypatch.setenv("CRON_SECRET", "both know it")
    monkeypatch.setenv("DATABASE_URL", database)
    with HTTPServer(("127.0.0.1", 0), names["handler"]) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api/sweep"
        refused = [
            requests.get(url, headers=h, timeout=60).status_code
            for h in ({}, {"Authorization": "Bearer x"})
        ]
        swept = requests.get(url, headers={"Authorization": "Bearer both know it"}, timeout=60)
        server.shutdown()
    assert (refused, swept.status_code) == ([401, 401], 200)
    with psycopg.connect(database) as connection:
        assert connection.execute("select ok from unstuck.sweeps").fetchall() == [(True,)]
