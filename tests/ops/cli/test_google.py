"""`logs` and `doctor --cloud`: Google's servers at the wire, the libraries and the command line
real."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import grpc
import pytest
import responses
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from google.cloud.monitoring_v3 import (
    ListTimeSeriesRequest,
    ListTimeSeriesResponse,
    MetricServiceClient,
    TimeSeries,
)
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from functions.core import events
from functions.ops.cli import google as google_api
from functions.ops.cli.alert_files import metrics
from functions.ops.command_line import main
from functions.ops.doctor.cloud import ROLES, Cloud
from tests.chain.entries import entry_of
from tests.chain.logging_api import LoggingApi

PROJECT, REGION = "our-project", "europe-west1"
IN_REGION = f"projects/{PROJECT}/locations/{REGION}"
RUN = f"https://run.googleapis.com/v2/{IN_REGION}"
SCHEDULER = f"https://cloudscheduler.googleapis.com/v1/{IN_REGION}"
TASK = "6f1c7a52-0d3c-4c54-9f2f-0a1d9d5f7a10"
SWEEP = f"serviceAccount:unstuck-sweep@{PROJECT}.iam.gserviceaccount.com"
INVOKER = f"serviceAccount:unstuck-invoker@{PROJECT}.iam.gserviceaccount.com"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Monitoring(grpc.GenericRpcHandler):
    """The points of one metric."""

    def __init__(self) -> None:
        self.times: list[float] = [60.0]
        self.filters: list[str] = []

    def service(self, details: Any) -> Any:
        assert details.method == "/google.monitoring.v3.MetricService/ListTimeSeries"
        return grpc.unary_unary_rpc_method_handler(
            self._list, ListTimeSeriesRequest.deserialize, ListTimeSeriesResponse.serialize
        )

    def _list(self, request: Any, context: Any) -> Any:
        self.filters.append(request.filter)
        points = [
            {"interval": {"end_time": datetime.now(UTC) - timedelta(seconds=age)}}
            for age in self.times
        ]
        return ListTimeSeriesResponse(time_series=[TimeSeries(points=points)] if points else [])


class Google:
    """A deployment that is well. A test may spoil what it likes."""

    def __init__(self, mock: responses.RequestsMock) -> None:
        self.logging, self.monitoring = LoggingApi(mock), Monitoring()
        self.job: dict[str, Any] | None = {
            "state": "ENABLED",
            "schedule": "* * * * *",
            "lastAttemptTime": ago(30),
        }
        self.metrics = list(metrics())
        self.alerts: list[dict[str, Any]] = []
        self.project = [{"role": role, "members": [SWEEP]} for role in ROLES]
        self.callers = [{"role": "roles/run.invoker", "members": [INVOKER]}]
        self.refused: set[str] = set()
        service = f"{RUN}/services/unstuck-sweep:getIamPolicy"
        job = f"{SCHEDULER}/jobs/unstuck-sweep"
        project = f"https://cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}:getIamPolicy"
        named = f"https://logging.googleapis.com/v2/projects/{PROJECT}/metrics"
        for method, url, make_content in (
            ("GET", job, lambda: self.job),
            (
                "GET",
                named,
                lambda: {"metrics": [{"name": metric, "filter": "x"} for metric in self.metrics]},
            ),
            (
                "GET",
                f"https://monitoring.googleapis.com/v3/projects/{PROJECT}/alerts",
                lambda: {"alerts": self.alerts},
            ),
            ("POST", project, lambda: {"bindings": self.project}),
            ("GET", service, lambda: {"bindings": self.callers}),
        ):
            mock.add_callback(method, url, self._answering(make_content))

    def _answering(self, make_content: Any) -> Any:
        def answer(request: Any) -> tuple[int, dict[str, str], str]:
            if any(part in request.url for part in self.refused):
                return (
                    403,
                    {},
                    json.dumps(
                        {"error": {"code": 403, "message": "The caller does not have permission"}}
                    ),
                )
            content = make_content()
            if content is None:
                return (404, {}, "{}")
            return (200, {}, json.dumps(content))

        return answer


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    monkeypatch.setattr(google_api, "credentials", AnonymousCredentials)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        google = Google(mock)
        server = grpc.server(ThreadPoolExecutor(2), handlers=[google.monitoring])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        client = MetricServiceClient(transport=MetricServiceGrpcTransport(channel=channel))
        monkeypatch.setattr(Cloud, "metrics", client)
        yield google
        channel.close()
        server.stop(0).wait()


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def command(*argv: str) -> Ran:
        code = main(argv)
        return Ran(code, *capsys.readouterr())

    return command


# -- logs


def logged(
    google: Google, task: str = TASK, service: str = "unstuck-worker", seconds: float = 60.0
) -> None:
    line = events.TASK_CREATED.line({"watch": "tasks", "task_id": task, "kind": "image"})
    entry = entry_of(line, service) | {"timestamp": ago(seconds), "insertId": f"{service}{seconds}"}
    google.logging.entries.append(entry)


def logs(run: Any, *argv: str) -> Any:
    return run("logs", TASK, "--project", PROJECT, *argv)


def test_it_reads_what_was_logged_about_a_task_the_oldest_first(google: Google, run: Any) -> None:
    for service, seconds in (
        ("unstuck-worker", 30),
        ("unstuck-create-task", 90),
        ("unstuck-sweep", 10),
    ):
        logged(google, service=service, seconds=seconds)
    logged(google, task="another")
    logged(google, service="shop")
    done = logs(run)
    assert done.code == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[2] for row in rows[1:]] == [
        "unstuck-create-task",
        "unstuck-worker",
        "unstuck-sweep",
    ]
    assert rows[1][1] == "INFO"
    assert rows[1][3] == f"task {TASK} (image) created"


def test_as_json_it_gives_the_fields_too(google: Google, run: Any) -> None:
    logged(google)
    [entry] = json.loads(logs(run, "--json").out)["entries"]
    assert set(entry) == {"timestamp", "severity", "service", "event", "message", "trace", "fields"}
    assert (entry["event"], entry["fields"]["kind"]) == ("task_created", "image")


def test_since_when_and_how_many_can_be_said(google: Google, run: Any) -> None:
    for seconds in (10, 20, 7200):
        logged(google, seconds=seconds)
    assert len(json.loads(logs(run, "--json", "--since", "1h").out)["entries"]) == 2
    assert len(json.loads(logs(run, "--json", "--limit", "1").out)["entries"]) == 1
    done = logs(run, "--since", "5s")
    assert (done.code, done.out) == (0, "")
    assert "wider --since" in done.err


def test_a_key_is_a_text_and_no_query(google: Google, run: Any) -> None:
    evil = '" OR severity>=DEFAULT OR jsonPayload.task_id="'
    logged(google)
    done = run("logs", evil, "--project", PROJECT, "--json")
    assert json.loads(done.out)["entries"] == []


def test_keys_that_differ_by_their_case_alone_are_two(google: Google, run: Any) -> None:
    logged(google, task=TASK.upper())
    assert json.loads(logs(run, "--json").out)["entries"] == []


# -- doctor --cloud


def doctor(run: Any, *argv: str) -> Any:
    return run("doctor", "--cloud", "--project", PROJECT, "--region", REGION, "--json", *argv)


def findings(done: Ran) -> dict[str, list[str]]:
    """What the doctor found, by level and check."""
    by_check: dict[str, list[str]] = {}
    for finding in json.loads(done.out)["findings"]:
        check = f"{finding['level']} {finding['check']}"
        by_check.setdefault(check, []).append(finding["what"])
    return by_check


def test_a_deployment_that_is_well_is_said_to_be(google: Google, run: Any) -> None:
    done = doctor(run)
    assert done.code == 0, done.out
    checks = ("schedule", "metrics", "last points", "incidents", "IAM")
    assert set(findings(done)) == {f"fine {check}" for check in checks}
    assert google.monitoring.filters == [
        'metric.type="logging.googleapis.com/user/unstuck_sweep_finished"'
    ]


class Ago(float):
    """So many seconds before the test, which runs long after this was read."""

    @classmethod
    def now(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cls.now(member) for name, member in value.items()}
        if isinstance(value, list):
            return [cls.now(member) for member in value]
        return ago(value) if isinstance(value, cls) else value


SPOILT: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "no job": ({"job": None}, "breaks schedule", "there is no job unstuck-sweep", 3),
    "a paused job": ({"job": {"state": "PAUSED"}}, "breaks schedule", "is PAUSED", 3),
    "a job that never ran": ({"job": {"state": "ENABLED"}}, "warns schedule", "has never run", 0),
    "a job that is late": (
        {"job": {"state": "ENABLED", "lastAttemptTime": Ago(3600)}},
        "warns schedule",
        "ran 1h",
        0,
    ),
    "a run that failed": (
        {"job": {"state": "ENABLED", "lastAttemptTime": Ago(30), "status": {"code": 7}}},
        "warns schedule",
        "code 7",
        0,
    ),
    "a metric that is missing": (
        {"metrics": ["unstuck_task_created"]},
        "breaks metrics",
        "unstuck_sweep_finished",
        3,
    ),
    "an open incident": (
        {"alerts": [{"openTime": Ago(600), "policy": {"displayName": "unstuck/SweepSilent"}}]},
        "warns incidents",
        "SweepSilent is open since 10m",
        0,
    ),
    "no right to write gauges": (
        {"project": []},
        "warns IAM",
        "lacks roles/monitoring.metricWriter, roles/logging.viewer",
        0,
    ),
    "a sweep that nobody may call": (
        {"callers": []},
        "breaks IAM",
        "may not call unstuck-sweep",
        3,
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_it_finds(case: str, google: Google, run: Any) -> None:
    change, check, sentence, code = SPOILT[case]
    for name, value in change.items():
        setattr(google, name, Ago.now(value))
    done = doctor(run)
    assert any(sentence in text for text in findings(done).get(check, [])), done.out
    assert done.code == code
    for finding in json.loads(done.out)["findings"]:
        assert finding["level"] == "fine" or (finding["why"] and finding["do"]), (
            "why it matters, and the next step"
        )


def test_it_finds_that_no_line_was_counted(google: Google, run: Any) -> None:
    google.monitoring.times = []
    assert "has no point in the last 1h" in findings(doctor(run))["warns last points"][0]


def test_incidents_of_others_are_none_of_ours(google: Google, run: Any) -> None:
    google.alerts = [{"openTime": ago(600), "policy": {"displayName": "shop/Down"}}]
    assert findings(doctor(run))["fine incidents"] == ["none is open"]


@pytest.mark.parametrize(
    "refused", ["cloudscheduler", "/metrics", "/alerts", "cloudresourcemanager"]
)
def test_what_may_not_be_read_is_a_finding_and_stops_nothing(
    refused: str, google: Google, run: Any
) -> None:
    google.refused = {refused}
    done = doctor(run)
    everything = json.loads(done.out)["findings"]
    warnings = [finding for finding in everything if finding["level"] == "warns"]
    assert len(warnings) == 1
    assert "does not have permission" in warnings[0]["what"]
    assert "roles/viewer" in warnings[0]["do"]
    assert len(findings(done)) == 5


# -- without Google


@pytest.mark.parametrize("argv", [["logs", TASK], ["doctor", "--cloud"]])
def test_without_credentials_it_says_how_to_get_some_and_ends_with_4(
    argv: list[str], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def default(**_: Any) -> Any:
        raise DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr("google.auth.default", default)
    done = run(*argv, "--project", PROJECT)
    assert (done.code, done.out) == (4, "")
    assert "gcloud auth application-default login" in done.err


def test_credentials_that_are_refused_are_told_apart(
    google: Google, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stale(AnonymousCredentials):  # type: ignore[misc]
        def before_request(self, *_: Any) -> None:
            raise RefreshError("invalid_grant: Token has been expired or revoked.")

    monkeypatch.setattr(google_api, "credentials", Stale)
    for done in (logs(run), doctor(run)):
        assert done.code == 4
        assert "expired or revoked" in done.err


def test_a_network_that_is_away_ends_with_4(google: Google, run: Any) -> None:
    google.logging.status = 503
    assert logs(run).code == 4


@pytest.mark.parametrize("argv", [["logs", TASK], ["doctor", "--cloud"]])
def test_without_a_project_it_asks_for_one(argv: list[str], run: Any) -> None:
    done = run(*argv)
    assert done.code == 2
    assert "--project" in done.err
