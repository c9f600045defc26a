"""With everything switched on, each variable arrives where it is meant for and nowhere else, and
each part is connected with the next: whatever is lost on the way would be told by nobody."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import yaml

from functions.core.settings import Settings
from tests.chain import platform
from tests.chain.definitions import ALERTS
from tests.chain.query import compiled
from tests.infra.conftest import (
    BROUGHT,
    EVERYTHING,
    KEY,
    POOL,
    PROJECT,
    QUEUE,
    REPOSITORY,
    SIZES,
    Infra,
    block,
)
from tests.infra.test_deployed_chain import filled

pytestmark = pytest.mark.timeout(1500)  # terraform, once for all of its tests
NAME = "two-of-them"
REGION = "europe-west1"
INVOKER = f"{NAME}-invoker@{PROJECT}.iam.gserviceaccount.com"
URL = "https://x.example/as-long-as-a-secret-must-be"
GROUPS = {"worker": "worker", "worker_event": "worker", "sweep": "sweep", "rescue": "rescue"}
"""The group of each function; the others belong to api."""
CHANNELS = {
    "email": {"email_address": "oncall@example.com"},
    "slack": {"channel_name": "#alerts"},
    "webhook_basicauth": {"url": "https://example.com/hook", "username": "unstuck"},
}
"""Where the notifications go, by the type of the channel."""


@pytest.fixture(autouse=True)
def _applied(infra: Infra) -> None:
    if not infra.complete:
        pytest.skip("much is only known after an apply: only tfmock applies without a cloud")


def made(infra: Infra, kind: str) -> dict[str, dict[str, Any]]:
    return infra.of_type(kind, everything=True)


def environment_of(group: str, entry: str) -> dict[str, str]:
    """All variables of a function that are no secret."""
    expected = {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "WORKER_URL": f"https://{REGION}-{PROJECT}.cloudfunctions.net/{NAME}-worker",
        "TASKS_QUEUE": f"projects/{PROJECT}/locations/{REGION}/queues/{QUEUE['name']}",
        "TASKS_INVOKER": INVOKER,
        "THREADS": str(max(4, SIZES[group]["concurrency"])),
        "LOG_EXECUTION_ID": "true",
        "SUPABASE_URL": EVERYTHING["supabase_url"],
    }
    if group == "api":
        expected["JWT_AUDIENCE"] = "authenticated"
        expected["CORS_ORIGINS"] = "https://app.example.com,http://localhost:3000"
    if group == "sweep":
        expected["METRICS"] = "on"
    if group in {"api", "sweep"}:
        expected["CALLBACK_HOSTS"] = "api.example.com,*.example.org"
    if entry == "page":
        expected |= {"PAGE_WRITE": "on", "PAGE_REDACT": "iban,tax"}
    return expected


def test_each_function_has_the_size_the_account_and_the_variables_of_its_group(
    infra: Infra,
) -> None:
    timeouts = {"api": 60, "worker": 540, "sweep": 105, "rescue": 60}
    for entry, one in made(infra, "google_cloudfunctions2_function").items():
        group = GROUPS.get(entry, "api")
        config, size = block(one, "service_config"), SIZES[group]
        assert config["environment_variables"] == environment_of(group, entry), entry
        account = BROUGHT if group == "api" else f"{NAME}-{group}@{PROJECT}.iam.gserviceaccount.com"
        assert config["service_account_email"] == account
        assert config["timeout_seconds"] == timeouts[group], entry
        assert (config["available_memory"], config["available_cpu"]) == (
            size["memory"],
            size["cpu"],
        ), entry
        assert config["max_instance_request_concurrency"] == size["concurrency"], entry
        assert config["min_instance_count"] == size["min"], entry
        assert config["max_instance_count"] == size["max"], entry
        assert config["all_traffic_on_latest_revision"] is True, "else the old code would answer"
        ingress = "ALLOW_ALL" if group == "api" else "ALLOW_INTERNAL_ONLY"
        assert config["ingress_settings"] == ingress, entry
        assert config["direct_vpc_egress"] == "VPC_EGRESS_PRIVATE_RANGES_ONLY", entry
        network = block(config, "direct_vpc_network_interface")
        assert {name: network[name] for name in EVERYTHING["network"]} == EVERYTHING["network"]


def test_the_code_reads_what_is_set(infra: Infra) -> None:
    for entry, one in made(infra, "google_cloudfunctions2_function").items():
        config = block(one, "service_config")
        secrets = dict.fromkeys(
            [each["key"] for each in config["secret_environment_variables"]], URL
        )
        settings = Settings.read(config["environment_variables"] | secrets)
        assert settings.queue == f"projects/{PROJECT}/locations/{REGION}/queues/{QUEUE['name']}"
        assert settings.metrics == (entry == "sweep"), entry
        told = {"oncall": (URL, URL), "books": (URL, None)} if entry == "sweep" else {}
        assert settings.notify_others == told, entry
        assert (settings.sweep_ping_url == URL) == (entry == "sweep"), entry
        calls_back = GROUPS.get(entry, "api") in {"api", "sweep"}
        assert (settings.callback_secret == URL) == calls_back, entry


def test_addresses_that_both_the_policy_and_the_variable_name_bring_no_warning(
    infra: Infra,
) -> None:
    output = infra.switched_on.outputs["apply"]
    assert "`addresses` of the policy" not in " ".join(output.replace("│", " ").split())


def test_by_default_a_function_is_open_to_tokens_from_outside_and_takes_all_traffic(
    infra: Infra,
) -> None:
    for entry, one in infra.of_type("google_cloudfunctions2_function").items():
        config = block(one, "service_config")
        assert config["ingress_settings"] == "ALLOW_ALL", entry
        assert config["all_traffic_on_latest_revision"] is True, entry


def test_each_function_is_called_through_a_binding_of_its_own_service(infra: Infra) -> None:
    functions = made(infra, "google_cloudfunctions2_function")
    bindings = made(infra, "google_cloud_run_service_iam_binding")
    assert set(bindings) == set(functions), "a function that nobody may call"
    for entry, one in bindings.items():
        assert (one["role"], one["service"]) == ("roles/run.invoker", functions[entry]["name"])
        assert one["location"] == functions[entry]["location"] == REGION


def test_messages_of_the_topic_of_tasks_reach_the_worker(infra: Infra) -> None:
    topic = made(infra, "google_pubsub_topic")["tasks[0]"]
    trigger = block(made(infra, "google_cloudfunctions2_function")["worker_event"], "event_trigger")
    assert trigger["pubsub_topic"] == topic["id"]
    assert trigger["event_type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert trigger["trigger_region"] == REGION
    assert trigger["service_account_email"] == INVOKER
    assert topic["message_retention_duration"] == "86400s"


def test_the_lines_of_ended_workers_are_kept_for_an_hour_and_sent_again_soon(infra: Infra) -> None:
    topic = made(infra, "google_pubsub_topic")["gone[0]"]
    [subscription] = made(infra, "google_pubsub_subscription").values()
    [sink] = made(infra, "google_logging_project_sink").values()
    assert not sink["disabled"]
    assert topic["message_retention_duration"] == "3600s"
    assert subscription["message_retention_duration"] == "3600s"
    assert subscription["ack_deadline_seconds"] == 60, "as long as the function may take"
    assert block(subscription, "retry_policy")["maximum_backoff"] == "60s"
    assert block(subscription, "expiration_policy")["ttl"] == ""


def test_the_queue_and_the_schedule_are_as_the_variables_say(infra: Infra) -> None:
    [queue] = made(infra, "google_cloud_tasks_queue").values()
    retries, limits = block(queue, "retry_config"), block(queue, "rate_limits")
    assert queue["name"] == QUEUE["name"]
    for name in ("max_attempts", "min_backoff", "max_backoff"):
        assert retries[name] == QUEUE[name]
    assert limits["max_dispatches_per_second"] == QUEUE["max_dispatches_per_second"]
    assert limits["max_concurrent_dispatches"] == 2 * 9
    assert made(infra, "google_cloud_scheduler_job")["sweep"]["paused"] is True


def test_each_channel_leads_to_whom_it_names(infra: Infra) -> None:
    channels = {
        one["type"]: one for one in made(infra, "google_monitoring_notification_channel").values()
    }
    assert "pagerduty" in channels
    topic = made(infra, "google_pubsub_topic")["alerts[0]"]
    for kind, labels in (CHANNELS | {"pubsub": {"topic": topic["id"]}}).items():
        assert channels[kind]["labels"] == labels
    may = made(infra, "google_pubsub_topic_iam_member")["alerts[0]"]
    assert (may["topic"], may["role"]) == (topic["id"], "roles/pubsub.publisher")
    agents = made(infra, "google_project_service_identity")
    assert may["member"] == agents["monitoring"]["member"]


def test_agents_of_google_may_do_what_they_do_for_us(infra: Infra) -> None:
    agents = made(infra, "google_project_service_identity")
    projects = made(infra, "google_project_iam_member")
    event = projects["eventarc_agent[0]"]
    assert event["role"] == "roles/eventarc.serviceAgent"
    assert event["member"] == agents["eventarc"]["member"]
    accounts = made(infra, "google_service_account_iam_member")
    token = accounts["pubsub_as_invoker[0]"]
    assert token["role"] == "roles/iam.serviceAccountTokenCreator"
    assert token["member"] == agents["pubsub"]["member"]
    assert token["service_account_id"].endswith(INVOKER)


def test_each_account_has_the_roles_of_its_part(infra: Infra) -> None:
    members = made(infra, "google_project_iam_member")
    for key, one in members.items():
        account, _, role = key.partition(" ")
        if role:
            assert one["role"] == role
            assert one["member"].startswith(f"serviceAccount:{NAME}-{account}@")
    roles = {key for key in members if " " in key}
    assert "invoker roles/eventarc.eventReceiver" in roles
    sources = members["build_reads_sources"]
    assert sources["role"] == "roles/storage.objectViewer"
    assert sources["member"].startswith(f"serviceAccount:{NAME}-build@")
    for kind, role in {
        "google_cloud_tasks_queue_iam_member": "roles/cloudtasks.enqueuer",
        "google_secret_manager_secret_iam_member": "roles/secretmanager.secretAccessor",
        "google_artifact_registry_repository_iam_member": "roles/artifactregistry.writer",
    }.items():
        found = {name: one for name, one in made(infra, kind).items() if name != "viewer"}
        assert {one["role"] for one in found.values()} == {role}


def test_a_secret_stays_in_the_regions_that_were_named(infra: Infra) -> None:
    for one in made(infra, "google_secret_manager_secret").values():
        replicas = block(one, "replication", "user_managed")["replicas"]
        assert [replica["location"] for replica in replicas] == EVERYTHING["secret_locations"]


def test_what_the_platform_says_of_an_instance_of_a_pool_goes_to_the_rescue(infra: Infra) -> None:
    [sink] = made(infra, "google_logging_project_sink").values()
    takes, now = compiled(sink["filter"]), datetime.now(UTC)
    for text in (platform.OOM, platform.SIGNAL, platform.EXIT, platform.STOPPED):
        assert takes(platform.pool_line(text, now, pool=f"{NAME}-pool-film"))
        assert takes(platform.line(text, now, revision=f"{NAME}-worker-00001-abc"))
        for other in (f"{NAME}-pool-films", "unstuck-pool-film"):
            assert not takes(platform.pool_line(text, now, pool=other))
    assert not takes(platform.pool_line("Started", now, pool=f"{NAME}-pool-film"))


def test_what_nothing_can_ask_for_is_waited_for(infra: Infra) -> None:
    waits = made(infra, "time_sleep")
    assert set(waits) == {"apis", "iam", "metrics[0]"}
    assert {one["create_duration"] for one in waits.values()} == {"60s"}
    assert all(one["triggers"] for one in waits.values()), "what is added later is waited for too"


def test_no_value_of_a_secret_is_read_and_other_users_of_an_api_keep_it(infra: Infra) -> None:
    for found in (infra.resources, infra.everything):
        for address, one in found.items():
            if address.startswith("data.google_secret_manager_secret_version."):
                assert one["fetch_secret_data"] is False, "its value would be in the state"
            if address.startswith("google_project_service."):
                assert one["disable_on_destroy"] is False, address
    [bucket] = infra.of_type("google_storage_bucket").values()
    assert bucket["uniform_bucket_level_access"] is True


# -- what was there before


def test_an_account_that_was_there_gets_the_roles_of_its_part_and_is_not_made(infra: Infra) -> None:
    member = f"serviceAccount:{BROUGHT}"
    assert set(made(infra, "google_service_account")) == {
        "worker",
        "sweep",
        "rescue",
        "invoker",
        "build",
        "scaler[0]",
    }
    assert made(infra, "google_cloud_tasks_queue_iam_member")["api"]["member"] == member
    assert made(infra, "google_service_account_iam_member")["api"]["member"] == member
    secrets = made(infra, "google_secret_manager_secret_iam_member")
    assert secrets["SUPABASE_KEY api"]["member"] == member


def test_a_bucket_and_a_repository_that_were_there_are_used_and_not_made(infra: Infra) -> None:
    assert made(infra, "google_storage_bucket") == {}
    assert made(infra, "google_artifact_registry_repository") == {}
    source = made(infra, "google_storage_bucket_object")["source"]
    assert source["bucket"] == EVERYTHING["source_bucket"]
    for one in made(infra, "google_cloudfunctions2_function").values():
        build = block(one, "build_config")
        assert build["docker_repository"] == REPOSITORY
        assert block(build, "source", "storage_source")["bucket"] == EVERYTHING["source_bucket"]
    [writer] = made(infra, "google_artifact_registry_repository_iam_member").values()
    assert (writer["project"], writer["location"]) == (PROJECT, REGION)
    assert writer["repository"].endswith("ours")
    sources = made(infra, "google_project_iam_member")["build_reads_sources"]
    assert "/buckets/our-archive/" in block(sources, "condition")["expression"]


def test_what_can_have_a_key_and_labels_has_them(infra: Infra) -> None:
    labels = {"app": NAME, **EVERYTHING["labels"]}
    for kind in ("google_cloudfunctions2_function", "google_pubsub_topic"):
        for name, one in made(infra, kind).items():
            assert one["kms_key_name"] == KEY, name
            assert labels.items() <= one["effective_labels"].items(), name
    [pool] = made(infra, "google_cloud_run_v2_worker_pool").values()
    template = block(pool, "template")
    assert (template["encryption_key"], template["labels"]) == (KEY, EVERYTHING["labels"])
    for one in made(infra, "google_secret_manager_secret").values():
        assert labels.items() <= one["effective_labels"].items()


def test_without_them_a_bucket_and_a_repository_are_made_with_googles_keys(infra: Infra) -> None:
    [bucket] = infra.of_type("google_storage_bucket").values()
    [repository] = infra.of_type("google_artifact_registry_repository").values()
    assert not bucket["encryption"]
    assert not repository["kms_key_name"]
    assert bucket["public_access_prevention"] == "enforced"


# -- a look from outside, and what was given up


def test_a_probe_from_outside_asks_for_a_task_and_tells_when_no_answer_of_ours_comes(
    infra: Infra,
) -> None:
    [probe] = made(infra, "google_monitoring_uptime_check_config").values()
    function = made(infra, "google_cloudfunctions2_function")["task_status"]
    host = block(probe, "monitored_resource")["labels"]["host"]
    assert f"https://{host}" == block(function, "service_config")["uri"]
    assert (probe["period"], probe["timeout"]) == ("300s", "30s")
    check = block(probe, "http_check")
    assert (check["path"], check["port"]) == (f"/?task_id={UUID(int=0)}", 443)
    assert check["use_ssl"]
    assert check["validate_ssl"]
    assert block(check, "accepted_response_status_codes")["status_class"] == "STATUS_CLASS_4XX"
    assert block(check, "service_agent_authentication")["type"] == "OIDC_TOKEN"
    matcher = block(probe, "content_matchers")
    assert (matcher["content"], matcher["matcher"]) == ('"error"', "CONTAINS_STRING")
    alert = made(infra, "google_monitoring_alert_policy")["ProbeFailing"]
    threshold = block(alert, "conditions", "condition_threshold")
    assert threshold["filter"] == (
        'metric.type="monitoring.googleapis.com/uptime_check/check_passed" AND '
        f'metric.labels.check_id="{probe["uptime_check_id"]}" AND resource.type="uptime_url"'
    )
    assert (threshold["comparison"], threshold["threshold_value"]) == ("COMPARISON_GT", 1)
    assert threshold["duration"] == "300s"
    assert filled(threshold["aggregations"]) == [
        {
            "alignment_period": "600s",
            "per_series_aligner": "ALIGN_NEXT_OLDER",
            "cross_series_reducer": "REDUCE_COUNT_FALSE",
            "group_by_fields": ["resource.label.host"],
        }
    ]
    assert block(threshold, "trigger")["count"] == 1
    assert alert["severity"] == "CRITICAL"


def test_lines_that_the_rescue_never_took_are_kept_and_told(infra: Infra) -> None:
    topic = made(infra, "google_pubsub_topic")["dead[0]"]
    [subscription] = made(infra, "google_pubsub_subscription").values()
    policy = block(subscription, "dead_letter_policy")
    assert (policy["dead_letter_topic"], policy["max_delivery_attempts"]) == (topic["id"], 20)
    assert topic["message_retention_duration"] == "604800s"
    agent = made(infra, "google_project_service_identity")["pubsub"]["member"]
    may_publish = made(infra, "google_pubsub_topic_iam_member")["dead[0]"]
    assert (may_publish["role"], may_publish["member"]) == ("roles/pubsub.publisher", agent)
    [may_take] = made(infra, "google_pubsub_subscription_iam_member").values()
    assert (may_take["role"], may_take["member"]) == ("roles/pubsub.subscriber", agent)
    alert = made(infra, "google_monitoring_alert_policy")["DeadLetters"]
    query = block(alert, "conditions", "condition_prometheus_query_language")
    assert query["query"] == (
        "sum(increase(pubsub_googleapis_com:subscription_dead_letter_message_count{"
        f'monitored_resource="pubsub_subscription",subscription_id="{subscription["name"]}"'
        "}[15m])) > 0"
    )
    assert (query["duration"], query["evaluation_interval"]) == ("0s", "60s")
    assert query["disable_metric_validation"] is True, "refused before the first line"
    assert alert["severity"] == "WARNING"


def test_both_tell_their_end_and_stay_open_for_a_day(infra: Infra) -> None:
    alerts = made(infra, "google_monitoring_alert_policy")
    for name in ("ProbeFailing", "DeadLetters"):
        strategy = block(alerts[name], "alert_strategy")
        assert strategy["auto_close"] == "86400s", name
        assert strategy["notification_prompts"] == ["OPENED", "CLOSED"], name


def test_both_are_off_unless_they_are_asked_for(infra: Infra) -> None:
    assert infra.of_type("google_monitoring_uptime_check_config") == {}
    assert not {"ProbeFailing", "DeadLetters"} & set(
        infra.of_type("google_monitoring_alert_policy")
    )


# -- pools


def test_a_pool_runs_the_worker_with_its_size_its_settings_and_its_secrets(infra: Infra) -> None:
    [pool] = made(infra, "google_cloud_run_v2_worker_pool").values()
    template = block(pool, "template")
    container = block(template, "containers")
    assert block(pool, "scaling")["manual_instance_count"] == POOL["instances"]
    assert container["image"] == POOL["image"]
    assert container["command"] == ["python", "-m", "functions.entry.pool"]
    limits = block(container, "resources")["limits"]
    assert limits == {"memory": "16Gi", "cpu": "4", "nvidia.com/gpu": "1"}
    assert block(template, "node_selector")["accelerator"] == POOL["gpu"]
    assert template["service_account"] == f"{NAME}-worker@{PROJECT}.iam.gserviceaccount.com"
    plain = {one["name"]: one["value"] for one in container["env"] if not one["value_source"]}
    expected = environment_of("worker", "worker")
    assert plain == expected | {"LOG_TRANSPORT": "api", "LOG_SERVICE": f"{NAME}-worker"}
    secrets = [one["name"] for one in container["env"] if one["value_source"]]
    assert secrets == ["SUPABASE_KEY"]
    access = block(template, "vpc_access")
    assert access["egress"] == "PRIVATE_RANGES_ONLY"
    assert block(access, "network_interfaces")["subnetwork"] == "inner"
    log = made(infra, "google_project_iam_member")["pool_log[0]"]
    assert log["role"] == "roles/logging.logWriter", "its lines would be lost"
    assert log["member"].startswith(f"serviceAccount:{NAME}-worker@")


def test_a_pool_starts_and_ends_at_its_hours(infra: Infra) -> None:
    jobs = made(infra, "google_cloud_scheduler_job")
    [pool] = made(infra, "google_cloud_run_v2_worker_pool").values()
    for key, cron, count in (
        ("film starts", POOL["hours"]["start"], POOL["instances"]),
        ("film ends", POOL["hours"]["end"], 0),
    ):
        job = jobs[key]
        target = block(job, "http_target")
        assert (job["schedule"], job["time_zone"]) == (cron, "Europe/Berlin")
        assert not job["paused"]
        assert block(job, "retry_config")["retry_count"] == 5
        assert target["http_method"] == "PATCH"
        assert target["uri"] == (
            f"https://run.googleapis.com/v2/{pool['id']}?updateMask=scaling.manualInstanceCount"
        )
        body = json.loads(base64.b64decode(target["body"]))
        assert body == {"scaling": {"manualInstanceCount": count}}
        token = block(target, "oauth_token")
        assert token["service_account_email"].startswith(f"{NAME}-scaler@")
    may = made(infra, "google_cloud_run_v2_worker_pool_iam_member")["film"]
    assert (may["role"], may["name"]) == ("roles/run.developer", pool["name"])
    acts = made(infra, "google_service_account_iam_member")["scaler_as_worker[0]"]
    assert acts["role"] == "roles/iam.serviceAccountUser"


# -- alerts on log lines, and what every mail says


def test_an_alert_on_a_log_line_names_what_it_extracts_and_mails_at_most_so_often() -> None:
    alerts = yaml.safe_load((ALERTS / "log_match.yaml").read_text(encoding="utf-8"))["alerts"]
    for one in alerts:
        expected = "300s" if one["alert"] == "SchedulerPaused" else "3600s"
        assert one["every"] == expected, one["alert"]
        for label, extractor in one["labels_from"].items():
            field = extractor.removeprefix("EXTRACT(").removesuffix(")").split(".")[-1]
            assert label in {field, "by"}, one["alert"]


def test_each_mail_is_text_that_mail_programs_show_with_the_labels_of_the_owner(
    infra: Infra,
) -> None:
    for name, one in made(infra, "google_monitoring_alert_policy").items():
        assert block(one, "documentation")["mime_type"] == "text/markdown", name
        assert one["combiner"] == "OR", name
        expected = {"app": NAME, "team": "media", "alert": name.lower()}
        assert expected.items() <= one["user_labels"].items(), name
