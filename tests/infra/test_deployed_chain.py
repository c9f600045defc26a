"""What tests/chain plays a day on is what Terraform deploys: the same metrics, and the same
expressions of the alerts. And all between them is switched on and connected: the schedule, the
queue, the metrics, the alerts, who gets them."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from functions.core.policy import DEFAULT, load
from functions.sweep.platform_line import death_of
from tests.chain import platform
from tests.chain.definitions import ALERTS, Chain, base, from_files, from_resources
from tests.chain.query import compiled
from tests.chain.test_chain import LINES
from tests.infra.conftest import EVERYTHING, PROJECT, Infra, block
from tests.terraform import ROOT

pytestmark = pytest.mark.timeout(1500)  # terraform, once for all of its tests


def plain(chain: Chain) -> dict[str, Any]:
    """Without the comments and the line breaks of the files."""
    found: dict[str, Any] = {
        one.name: (_words(one.filter), one.labels, one.value) for one in chain.metrics
    }
    return found | {one["alert"]: (_words(one["expr"]), one["for"]) for one in chain.rules}


def _words(text: str) -> str:
    return " ".join(
        word for line in text.splitlines() for word in line.partition("  # ")[0].split()
    )


def test_what_is_deployed_is_what_the_chain_is_tested_on(infra: Infra) -> None:
    deployed = from_resources(infra.resources.values())
    assert plain(deployed) == plain(from_files())
    assert (len(deployed.metrics), len(deployed.rules)) == (
        len(from_files().metrics),
        len(from_files().rules),
    )


# -- switched on and connected

POLICY = load(str(DEFAULT))
LABELS = {
    "dispatch_failed": {"watch"},
    "beat_failed": {"watch", "kind"},
    "lease_lost": {"watch", "kind", "wanted"},
    "oldest_overdue_seconds": set(),
    "oldest_pending_seconds": set(),
    "request_failed": {"entry"},
    "settle_failed": {"watch", "kind"},
    "sweep_finished": {"outcome"},
    "sweep_incomplete": set(),
    "sweep_skipped": {"verdict"},
    "sweep_suspended": {"watch"},
    "task_created": {"watch", "kind"},
    "task_finished": {"watch", "kind", "state", "reason", "by"},
    "task_overtaken": {"watch", "kind"},
    "task_redispatched": {"watch", "kind"},
    "task_requeued": {"watch", "kind", "reason", "by"},
    "task_seconds": {"watch", "kind", "state"},
    "task_unsweepable": {"watch", "code"},
}
"""By metric. Whoever changes one deletes the metric's history: infra/README.md, "Day two"."""
EVENTS = {
    "sweep_incomplete": ('"sweep_finished" AND jsonPayload.complete=false', None),
    "oldest_overdue_seconds": ('"sweep_finished"', "oldest_overdue_seconds"),
    "oldest_pending_seconds": ('"sweep_finished"', "oldest_pending_seconds"),
    "task_seconds": ('"task_finished" AND jsonPayload.by="guard"', "seconds"),
}
"""The filter and the value of a metric that does not just count the event of its name."""


def filled(value: Any) -> Any:
    """What was written, without what is empty and what the platform adds."""
    if isinstance(value, list):
        return [filled(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {name: filled(one) for name, one in value.items()}
    return {name: one for name, one in kept.items() if one not in (None, [], {}, "", [{}])}


def test_each_metric_counts_its_event_by_its_labels(infra: Infra) -> None:
    metrics = infra.of_type("google_logging_metric")
    assert set(metrics) == {f"unstuck_{name}" for name in LABELS}
    for name, labels in LABELS.items():
        metric = metrics[f"unstuck_{name}"]
        event, value = EVENTS.get(name, (f'"{name}"', None))
        service = "sweep" if '"sweep_' in event else None
        assert metric["filter"] == f"{base(service)} AND jsonPayload.event={event}"
        extractors = {label: f"EXTRACT(jsonPayload.{label})" for label in labels}
        assert (metric["label_extractors"] or {}) == extractors
        assert (metric["value_extractor"] or None) == (value and f"EXTRACT(jsonPayload.{value})")
        assert not metric["disabled"], "a disabled metric counts nothing"
        descriptor = block(metric, "metric_descriptor")
        assert descriptor["metric_kind"] == "DELTA"
        assert descriptor["value_type"] == ("DISTRIBUTION" if value else "INT64")
        assert descriptor["unit"] == ("s" if value else "1")
        if value:
            [buckets] = block(metric, "bucket_options")["exponential_buckets"]
            assert buckets == {"num_finite_buckets": 20, "growth_factor": 2, "scale": 1}


@pytest.mark.parametrize("everything", [False, True])
def test_each_alert_is_on_and_tells_everyone(infra: Infra, everything: bool) -> None:
    if everything and not infra.complete:
        pytest.skip("the ids of channels are only known after an apply")
    channels = infra.of_type("google_monitoring_notification_channel", everything=everything)
    ids = sorted(one["id"] for one in channels.values())
    assert len(ids) == (5 if everything else 0)
    brought = EVERYTHING["notification_channels"] if everything else []
    ids = sorted(ids + brought)
    for name, alert in infra.of_type(
        "google_monitoring_alert_policy", everything=everything
    ).items():
        assert alert["enabled"] in {None, True}, name
        assert sorted(alert["notification_channels"] or []) == ids, name
        assert all(one["enabled"] in {None, True} for one in channels.values())
        strategy = block(alert, "alert_strategy")
        for again in strategy["notification_channel_strategy"]:
            assert sorted(again["notification_channel_names"]) == ids, name


def test_each_rule_is_evaluated_as_its_file_says(infra: Infra) -> None:
    groups = yaml.safe_load((ALERTS / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    alerts = infra.of_type("google_monitoring_alert_policy")
    for name, rule in rules.items():
        alert = alerts[name]
        condition = block(alert, "conditions")
        query = block(condition, "condition_prometheus_query_language")
        assert query["disable_metric_validation"] is True, "refused before the first line"
        assert (query["duration"], query["evaluation_interval"]) == (rule["for"], "60s")
        assert (query["alert_rule"], query["rule_group"]) == (name, "unstuck")
        assert alert["severity"] == rule["labels"]["severity"]
        assert condition["display_name"] == rule["annotations"]["summary"]
        assert filled(block(alert, "alert_strategy")) == {
            "auto_close": "86400s",
            "notification_prompts": ["OPENED", "CLOSED"],
        }


def test_each_alert_on_a_log_line_reads_as_its_file_says(infra: Infra) -> None:
    written = yaml.safe_load((ALERTS / "log_match.yaml").read_text(encoding="utf-8"))["alerts"]
    alerts = infra.of_type("google_monitoring_alert_policy")
    for one in written:
        alert = alerts[one["alert"]]
        matched = block(alert, "conditions", "condition_matched_log")
        assert (matched["filter"], matched["label_extractors"]) == (
            one["filter"],
            one["labels_from"],
        )
        assert alert["severity"] == one["labels"]["severity"]
        assert filled(block(alert, "alert_strategy")) == {
            "auto_close": "3600s",
            "notification_rate_limit": [{"period": one["every"]}],
        }


def test_the_schedule_runs_and_calls_the_sweep_soon_again(infra: Infra) -> None:
    [job] = infra.of_type("google_cloud_scheduler_job").values()
    assert not job["paused"]
    assert (job["name"], job["region"]) == ("unstuck-sweep", "us-central1")
    retry = block(job, "retry_config")
    assert (retry["retry_count"], retry["min_backoff_duration"]) == (1, "5s")
    assert float(job["attempt_deadline"].removesuffix("s")) == POLICY.sweep_budget + 90


def test_the_queue_tries_a_push_again_for_hours_with_pauses(infra: Infra) -> None:
    [queue] = infra.of_type("google_cloud_tasks_queue").values()
    assert queue["desired_state"] in {None, "RUNNING"}
    written = {"max_attempts": 20, "min_backoff": "5s", "max_backoff": "300s", "max_doublings": 6}
    assert written.items() <= block(queue, "retry_config").items()
    assert block(queue, "rate_limits")["max_dispatches_per_second"] == 50


@pytest.mark.parametrize("name", ["queue.tf", "scheduler.tf"])
def test_no_duration_ends_the_tries_before_their_number_does(name: str) -> None:
    text = (ROOT / "infra" / name).read_text(encoding="utf-8")
    assert "retry_config" in text
    assert "max_retry_duration" not in text


def test_an_event_is_sent_again_until_it_is_taken(infra: Infra) -> None:
    functions = infra.of_type("google_cloudfunctions2_function", everything=True)
    triggers = [one["event_trigger"][0] for one in functions.values() if one["event_trigger"]]
    assert [one["retry_policy"] for one in triggers] == ["RETRY_POLICY_RETRY"]


LINES_OF_ENDS = [
    *LINES["OutOfMemory"],
    *LINES["ContainerKilled"],
    *LINES["RequestTimeout"],
    (platform.STOPPED, {}),
    (platform.EXIT, {}),
]


def test_what_the_platform_says_of_an_ended_worker_goes_to_the_rescue(infra: Infra) -> None:
    [sink] = infra.of_type("google_logging_project_sink").values()
    takes = compiled(sink["filter"])
    now = datetime.now(UTC)
    for text, more in LINES_OF_ENDS:
        entry = platform.line(text, now, **more)
        assert death_of(entry, POLICY.timeout), entry
        assert takes(entry), entry
        assert takes(platform.line(text, now, revision="unstuck-worker-event-00001-abc", **more))
        for other in ("unstuck-sweep", "unstuck-dev-worker", "shop"):
            elsewhere = platform.line(text, now, revision=f"{other}-00001-abc", **more)
            assert not takes(elsewhere), other
    for text, more in ((platform.STARTED, {}), (platform.ROLLOUT, {}), (None, {"status": 200})):
        assert not takes(platform.line(text, now, **more))


def test_the_lines_reach_the_rescue_and_come_again_until_they_are_taken(infra: Infra) -> None:
    if not infra.complete:
        pytest.skip("the address of the function is only known after an apply")
    [sink] = infra.of_type("google_logging_project_sink").values()
    [topic] = infra.of_type("google_pubsub_topic").values()
    [may_publish] = infra.of_type("google_pubsub_topic_iam_member").values()
    [subscription] = infra.of_type("google_pubsub_subscription").values()
    function = infra.of_type("google_cloudfunctions2_function")["rescue"]
    assert sink["destination"] == f"pubsub.googleapis.com/{topic['id']}"
    assert sink["disabled"] in {None, False}
    assert not sink["exclusions"]
    assert may_publish["topic"] == topic["id"]
    assert may_publish["role"] == "roles/pubsub.publisher"
    assert may_publish["member"] == sink["writer_identity"]
    assert subscription["topic"] == topic["id"]
    url = block(function, "service_config")["uri"]
    push = block(subscription, "push_config")
    assert push["push_endpoint"] == url
    assert block(push, "oidc_token") == {
        "service_account_email": f"unstuck-invoker@{PROJECT}.iam.gserviceaccount.com",
        "audience": url,
    }
    assert block(subscription, "expiration_policy")["ttl"] == "", "it would be deleted when unused"
    assert block(subscription, "retry_policy")["minimum_backoff"] == "1s"


def test_the_sweep_alone_writes_gauges(infra: Infra) -> None:
    if not infra.complete:
        pytest.skip("the variables are only known after an apply")
    for entry, one in infra.of_type("google_cloudfunctions2_function").items():
        variables = block(one, "service_config")["environment_variables"]
        assert variables.get("METRICS") == ("on" if entry == "sweep" else None)
        assert variables["LOG_EXECUTION_ID"] == "true"


def test_the_goal_counts_every_end_whoever_wrote_it(infra: Infra) -> None:
    [slo] = infra.of_type("google_monitoring_slo").values()
    ended = (
        'metric.type="logging.googleapis.com/user/unstuck_task_finished" AND '
        'resource.type="cloud_run_revision" AND metric.labels.state='
    )
    assert filled(block(slo, "request_based_sli", "good_total_ratio")) == {
        "good_service_filter": f'{ended}"completed"',
        "bad_service_filter": f'{ended}"failed"',
    }


def test_every_api_that_is_called_is_enabled(infra: Infra) -> None:
    enabled = set(infra.of_type("google_project_service"))
    called = "cloudfunctions cloudscheduler cloudtasks logging monitoring run secretmanager"
    assert {f"{name}.googleapis.com" for name in called.split()} <= enabled
