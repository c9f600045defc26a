"""Gauges: the real client of Cloud Monitoring writes them to a server of the published service; the
sweep never minds."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psycopg
import pytest
from google.api.metric_pb2 import MetricDescriptor
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.monitoring_v3 import CreateTimeSeriesRequest, MetricServiceClient
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport
from google.protobuf import empty_pb2

from functions.core.policy import DEFAULT, load
from functions.store.postgres import PostgresStore
from functions.sweep import gauges
from functions.sweep.sweep import SweepReport
from tests.sweep.steps import sweep

POLICY = load(str(DEFAULT))
WATCH = POLICY.watch()
PROJECT = "our-project"
KINDS = {"image", "selection"}
"""Those that the policy names."""


class Monitoring(grpc.GenericRpcHandler):
    """google.monitoring.v3.MetricService, as far as points are written to it. It may refuse, or be
    slow."""

    def __init__(self) -> None:
        self.requests: list[CreateTimeSeriesRequest] = []
        self.refuses: grpc.StatusCode | None = None
        self.released = threading.Event()
        self.released.set()

    def service(self, details: Any) -> Any:
        assert details.method == "/google.monitoring.v3.MetricService/CreateTimeSeries"
        return grpc.unary_unary_rpc_method_handler(
            self._create, CreateTimeSeriesRequest.deserialize, empty_pb2.Empty.SerializeToString
        )

    def _create(self, request: CreateTimeSeriesRequest, context: grpc.ServicerContext) -> Any:
        self.released.wait(30)
        if self.refuses:
            context.abort(
                self.refuses, "points were written more frequently than the maximum sampling period"
            )
        self.requests.append(request)
        return empty_pb2.Empty()

    def points(self) -> dict[tuple[str, ...], float]:
        """The value of each series of the last requests: metric, watch, kind, state."""
        found = {}
        for request in self.requests:
            for one in request.time_series:
                labels = [
                    one.metric.labels[name]
                    for name in ("watch", "kind", "state")
                    if name in one.metric.labels
                ]
                value = one.points[0].value
                key = (one.metric.type.removeprefix("custom.googleapis.com/unstuck/"), *labels)
                assert key not in found, "one point of a series in one write"
                found[key] = (
                    value.double_value
                    if one.value_type == MetricDescriptor.ValueType.DOUBLE
                    else value.int64_value
                )
        return found


@pytest.fixture
def monitoring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitoring]:
    handler = Monitoring()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    client = MetricServiceClient(transport=MetricServiceGrpcTransport(channel=channel))
    monkeypatch.setattr(gauges, "client", lambda: client)
    monkeypatch.setattr(gauges, "_written_at", float("-inf"))
    monkeypatch.setattr(gauges, "_seen", set())
    yield handler
    handler.released.set()
    channel.close()
    server.stop(0).wait()


@pytest.fixture
def store(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    monkeypatch.setenv("METRICS", "on")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    made = PostgresStore(database)
    yield made
    made.close()


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Any:
    return lambda event: [
        one for one in map(json.loads, capfd.readouterr().out.splitlines()) if one["event"] == event
    ]


def swept(store: PostgresStore) -> SweepReport:
    return sweep(store, POLICY)


def again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the last points were long written."""
    monkeypatch.setattr(gauges, "_written_at", float("-inf"))


def test_a_sweep_writes_what_is_open_and_what_is_at_work(
    store: PostgresStore, monitoring: Monitoring, database: str
) -> None:
    for kind in ("image", "image", "poster"):
        store.create(WATCH, kind, {})
    store.claim(WATCH, None, "worker", ["poster"])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "update tasks set scheduled_at = now() - interval '100 s' where kind = 'image'"
        )
    assert swept(store).verdict == "ok"
    found = monitoring.points()
    assert found["open_tasks", "tasks", "image", "pending"] == 2
    assert 100 <= found["oldest_seconds", "tasks", "image", "pending"] < 160
    assert found["open_tasks", "tasks", "poster", "running"] == 1
    assert found["live_attempts", "tasks", "poster"] == 1
    zero = {key for key, value in found.items() if value == 0}
    assert ("open_tasks", "tasks", "selection", "pending") in zero
    assert ("live_attempts", "tasks", "image") in zero


def test_the_points_are_as_the_service_wants_them(
    store: PostgresStore, monitoring: Monitoring
) -> None:
    swept(store)
    [request] = monitoring.requests
    assert request.name == f"projects/{PROJECT}"
    for one in request.time_series:
        assert one.resource.type == "generic_task"
        assert set(one.resource.labels) == {"project_id", "location", "namespace", "job", "task_id"}
        assert one.resource.labels["namespace"] == "unstuck"
        assert one.metric_kind == MetricDescriptor.MetricKind.GAUGE
        assert abs(one.points[0].interval.end_time.timestamp() - time.time()) < 120
        assert "start_time" not in one.points[0].interval
    assert {key[2] for key in monitoring.points() if len(key) > 2} == KINDS


def test_two_installations_in_one_project_write_series_of_their_own(
    store: PostgresStore, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cloud Run says which service it is; the same series twice in 5 seconds is refused."""
    for name in ("unstuck", "unstuck-dev"):
        monkeypatch.setenv("K_SERVICE", f"{name}-sweep")
        again(monkeypatch)
        swept(store)
        assert {
            one.resource.labels["namespace"] for one in monitoring.requests[-1].time_series
        } == {name}


def test_what_is_gone_is_written_as_zero(
    store: PostgresStore, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = store.create(WATCH, "poster", {}).task_id
    swept(store)
    store.operate(WATCH, "cancel", [task])
    monitoring.requests.clear()
    again(monkeypatch)
    swept(store)
    assert monitoring.points()["open_tasks", "tasks", "poster", "pending"] == 0


def test_two_sweeps_in_a_row_write_once(store: PostgresStore, monitoring: Monitoring) -> None:
    for _ in range(3):
        swept(store)
    assert len(monitoring.requests) == 1


def test_many_series_go_in_several_requests(
    store: PostgresStore, monitoring: Monitoring, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "insert into tasks (kind) select 'kind' || n from generate_series(1, 150) n"
        )
    swept(store)
    sizes = [len(request.time_series) for request in monitoring.requests]
    assert sizes == [200, 112]
    assert len(monitoring.points()) == 312


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    ],
)
def test_a_refusal_is_told_and_the_sweep_is_fine(
    code: Any, store: PostgresStore, monitoring: Monitoring, log: Any
) -> None:
    monitoring.refuses = code
    assert swept(store).verdict == "ok"
    [failed] = log("gauges_failed")
    assert "maximum sampling period" in failed["error"]


def test_monitoring_that_does_not_answer_holds_nobody_up(
    store: PostgresStore, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    monkeypatch.setattr("functions.sweep.after_sweep.TIMEOUT_SECONDS", 1.0)
    monitoring.released.clear()
    started = time.monotonic()
    assert swept(store).verdict == "ok"
    assert time.monotonic() - started < 20
    assert log("gauges_failed")


def test_a_sweep_that_used_up_its_budget_leaves_them_out(
    store: PostgresStore, monitoring: Monitoring, log: Any
) -> None:
    from functions.sweep.after_sweep import afterwards

    afterwards(store, POLICY, PROJECT, 1, {}, [], until=time.monotonic() + 0.5)
    assert log("gauges_failed")[0]["error"] == "the sweep used up its budget"
    assert monitoring.requests == []


def test_without_credentials_it_says_so(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    def client() -> Any:
        raise DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr(gauges, "client", client)
    monkeypatch.setattr(gauges, "_written_at", float("-inf"))
    assert swept(store).verdict == "ok"
    assert "credentials" in log("gauges_failed")[0]["error"]


def test_the_ledger_has_the_sweep_before_monitoring_is_asked(
    store: PostgresStore, monitoring: Monitoring, database: str
) -> None:
    """Whatever becomes of the gauges, the run has ended."""
    seen = []

    def noting(request: Any, context: Any) -> Any:
        with psycopg.connect(database) as connection:
            seen.append(connection.execute("select ok from unstuck.sweeps").fetchall())
        return empty_pb2.Empty()

    monitoring._create = noting  # type: ignore[method-assign]
    swept(store)
    assert seen == [[(True,)]]


def test_a_run_that_did_nothing_writes_nothing(
    store: PostgresStore, monitoring: Monitoring
) -> None:
    sweep(store, POLICY, key="1")
    monitoring.requests.clear()
    assert sweep(store, POLICY, key="1").verdict == "duplicate"
    assert monitoring.requests == []
