"""The log as Cloud Run reads it: functions-framework with LOG_EXECUTION_ID, as infra/functions.tf
sets it, and the headers that the platform sends."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from functions.core import events
from functions.ops.local.servers import Server
from functions.ops.postgres.embedded import Postgres
from tests.conftest import copied
from tests.faults.world import World

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {
    "traceparent": f"00-{ID}-{SPAN}-01",
    "X-Cloud-Trace-Context": f"{ID}/13235353014750950193;o=1",
    "Function-Execution-Id": "abcDEF123456",
}
ENTRY_BYTES = 256 * 1024
"""https://docs.cloud.google.com/logging/quotas: the most of a LogEntry."""
EVENT = {
    "ce-id": "1",
    "ce-source": "//pubsub.googleapis.com/projects/our-project/topics/tasks",
    "ce-specversion": "1.0",
    "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
}
DEPLOYED = {"LOG_EXECUTION_ID": "true", "GOOGLE_CLOUD_PROJECT": "our-project"}


@pytest.fixture(scope="module")
def world(
    postgres: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with copied(postgres, template) as dsn:
        world = World(dsn, tmp_path_factory.mktemp("log"), env=DEPLOYED)
        try:
            yield world
        finally:
            world.close()


def lines(world: World, server: str) -> list[str]:
    return (world.folder / f"{server}.log").read_text(encoding="utf-8").splitlines()


def ran(world: World, text: str, times: int) -> list[dict[str, Any]]:
    """The lines of a push whose handler logs, and then fails."""
    before = len(lines(world, "worker")) if (world.folder / "worker.log").exists() else 0
    task_id = world.create("says_much", text=text, times=times)
    requests.post(world.worker().url, json={"task_id": task_id}, headers=HEADERS, timeout=60)
    written = lines(world, "worker")[before:]
    assert all(len(line.encode()) < ENTRY_BYTES for line in written)
    found = [json.loads(line) for line in written if '"event"' in line]
    return [one for one in found if one["task_id"] == task_id]


def test_all_lines_of_a_request_have_its_span_and_execution_the_handlers_too(world: World) -> None:
    found = ran(world, "half of it", 1)
    assert {one["event"] for one in found} >= {"task_claimed", "handler_log", "task_requeued"}
    for one in found:
        assert one["logging.googleapis.com/trace"] == f"projects/our-project/traces/{ID}"
        assert one["logging.googleapis.com/spanId"] == SPAN
        assert one["logging.googleapis.com/labels"]["execution_id"] == "abcDEF123456"
    [said] = [one for one in found if one["event"] == "handler_log"]
    assert said["logging.googleapis.com/labels"]["step"] == "one"


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}", "\x01", '"', "\\"])
def test_what_a_handler_logs_fits_into_an_entry_whatever_its_characters(
    character: str, world: World
) -> None:
    said = [one for one in ran(world, character, 60_000) if one["event"] == "handler_log"]
    assert said, "the line is lost"
    assert sum(json.dumps(one).count(json.dumps(character)[1:-1] * 10) > 0 for one in said) >= 1
    assert all("text" not in one for one in said), "written twice"


def test_a_traceback_is_where_error_reporting_reads_it(world: World) -> None:
    [requeued] = [one for one in ran(world, "x", 1) if one["event"] == "task_requeued"]
    assert requeued["stack_trace"].startswith("Traceback (most recent call last):")
    assert "says_much" in requeued["stack_trace"]
    assert requeued["@type"] == events.REPORTED_ERROR


def test_a_message_that_must_come_again_leaves_no_loose_lines_of_a_traceback(world: World) -> None:
    task_id = world.begin("waits")
    log = world.folder / "event.log"
    server = Server(
        "worker_event",
        world.worker().env | {"FUNCTION_TARGET": "worker_event"},
        signature="cloudevent",
        log=log,
    ).start()
    try:
        data = base64.b64encode(json.dumps({"task_id": task_id}).encode()).decode()
        answer = requests.post(
            server.url,
            json={"message": {"data": data, "messageId": "1"}, "subscription": "s"},
            headers={**HEADERS, **EVENT},
            timeout=60,
        )
        assert answer.status_code == 503, "it is not delivered again"
        assert "claim_refused" in log.read_text(encoding="utf-8")
        assert "Traceback" not in log.read_text(encoding="utf-8")
    finally:
        server.kill()
        world.gate(task_id).touch()
