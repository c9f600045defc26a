"""infra/ against the code: what Terraform deploys is what main.py has, settings.py reads and
events.py writes."""

import ast
import json
import re
import subprocess
from types import SimpleNamespace
from unittest.mock import MagicMock
from urllib.parse import unquote

import pytest
import yaml

from functions.core import events
from functions.core.policy import DEFAULT, load
from functions.core.settings import Settings, is_secret
from functions.sweep import gauges
from tests.chain.definitions import BASE, FUNCTIONS, base
from tests.chain.query import compiled
from tests.infra.conftest import EVERYTHING, PROJECT, block
from tests.terraform import ROOT, binary, resources

ALERTS = ROOT / "infra" / "alerts"
RUNBOOKS = ROOT / "infra" / "runbooks"
POLICY = load(str(DEFAULT))
pytestmark = pytest.mark.timeout(
    1500
)  # terraform takes 4 s of CPU for each plan, and the machine may be busy
LONG = "a-secret-that-nobody-can-guess-at-all"
OF_ADDRESSES = {"NOTIFY_URL_ONCALL", "NOTIFY_SECRET_ONCALL", "NOTIFY_URL_BOOKS"}
"""The variables of the addresses of EVERYTHING."""
PLATFORM_ENV = {"LOG_EXECUTION_ID", "THREADS"}
"""Set for the platform, not for the code."""


# -- the commands


def test_the_files_are_formatted():
    done = subprocess.run(
        [binary(), "fmt", "-check", "-recursive", "-diff", ROOT / "infra"],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout.decode()


def test_they_are_valid_and_a_project_is_all_that_must_be_given(terraform, infra):
    done = terraform.run("validate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Success! The configuration is valid." in done.stdout
    assert "Nobody is told" in infra.default.outputs["apply"], "without a channel it warns"


@pytest.mark.parametrize("switches", ["default", "switched_on"])
def test_a_second_plan_has_no_changes_and_all_can_be_destroyed(infra, switches):
    if not infra.complete:
        pytest.skip("nothing was applied: only tfmock applies without a cloud")
    applied = getattr(infra, switches)
    assert applied.codes["second plan"] == 0, applied.outputs["second plan"]
    assert "No changes." in applied.outputs["second plan"]
    assert applied.codes["destroy"] == 0, applied.outputs["destroy"]


def refusals():
    """(file, block, message) of each condition in infra/."""
    for file in [
        *(ROOT / "infra").glob("*.tf"),
        *(ROOT / "infra" / "modules" / "policy").glob("*.tf"),
    ]:
        text = file.read_text(encoding="utf-8")
        for found in re.finditer(
            r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL
        ):
            for message in re.findall(r'error_message = "(.*)"$', found[2], re.MULTILINE):
                yield file.name, found[1], message


def test_each_refusal_says_the_next_step_and_has_a_test():
    tests = "".join(
        file.read_text(encoding="utf-8") for file in (ROOT / "infra" / "tests").glob("*.tftest.hcl")
    )
    found = list(refusals())
    assert len(found) > 30
    for file, name, message in found:
        assert re.search(
            r"must|may be|Set|Raise|Lower|Give|See|Take|Copy|Add|Shorten|Rename|mend|needs", message
        ), message
        kind = "var" if file == "variables.tf" else "output"
        assert f"{kind}.{name}" in tests or name == "log_match", (
            f"{file}: {name} is never refused in a test"
        )


def test_whatever_is_declared_is_used():
    """As tflint's rule terraform_unused_declarations, which cannot be had everywhere."""
    for folder in (ROOT / "infra", ROOT / "infra" / "modules" / "policy"):
        text = "".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.tf")))
        used = set(re.findall(r"\b(?:var|local|data|module)\.\w+(?:\.\w+)?", text))
        names = {f"var.{name}" for name in re.findall(r'^variable "(\w+)"', text, re.MULTILINE)}
        for block_of_locals in re.findall(r"^locals \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            found = re.findall(r"^  (\w+) += ", block_of_locals, re.MULTILINE)
            names |= {f"local.{name}" for name in found}
        data = re.findall(r'^data "(\w+)" "(\w+)"', text, re.MULTILINE)
        names |= {f"data.{kind}" for kind, _ in data}
        used |= {".".join(one.split(".")[:2]) for one in used}
        assert names - used == set(), folder


# -- functions


def entry_points():
    tree = ast.parse((ROOT / "main.py").read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list
    }


def test_each_function_is_an_entry_point_of_main_and_each_path_is_deployed(infra):
    names = entry_points()
    for everything in (False, True):
        found = infra.of_type("google_cloudfunctions2_function", everything=everything)
        entries = {block(one, "build_config")["entry_point"] for one in found.values()}
        assert entries <= names
        assert {"create_task", "task_status", "cancel_task", "worker", "sweep"} <= entries
    assert entries == names, "with everything switched on nothing of main.py is left out"


def test_an_event_triggers_the_entry_point_that_reads_events(infra):
    for one in infra.of_type("google_cloudfunctions2_function", everything=True).values():
        entry = block(one, "build_config")["entry_point"]
        assert (entry == "worker_event") == bool(one["event_trigger"])


def test_a_function_is_called_like_its_service_and_like_what_the_filters_look_for(infra):
    for one in infra.of_type("google_cloudfunctions2_function").values():
        assert re.fullmatch(r"unstuck-[a-z]+(-[a-z]+)*", one["name"]), (
            "kebab-case, or its Cloud Run service has another name"
        )


def names_in_settings():
    text = (ROOT / "functions" / "core" / "settings.py").read_text(encoding="utf-8")
    return set(re.findall(r'env\.get\("([A-Z_]+)"', text))


@pytest.mark.parametrize("everything", [False, True])
def test_each_variable_that_is_set_is_read_and_each_that_is_needed_is_set(infra, everything):
    for entry, one in infra.of_type(
        "google_cloudfunctions2_function", everything=everything
    ).items():
        config = block(one, "service_config")
        secret = {each["key"] for each in config["secret_environment_variables"]}
        plain = (
            set(config["environment_variables"] or {}) if infra.complete or everything else set()
        )
        assert secret | plain <= names_in_settings() | PLATFORM_ENV | OF_ADDRESSES, entry
        assert secret & {"DATABASE_URL", "SUPABASE_KEY"}, f"{entry} cannot reach the database"
        assert not {name for name in plain if is_secret(name)}, "a secret in plain text"
        assert all(map(is_secret, secret)), "what a handler's process could read"


def test_what_is_set_lets_every_function_push_a_task_to_the_worker(infra):
    if not infra.complete:
        pytest.skip("the worker's URL is only known after an apply")
    functions = infra.of_type("google_cloudfunctions2_function")
    [queue] = infra.of_type("google_cloud_tasks_queue").values()
    for entry, one in functions.items():
        found = block(one, "service_config")["environment_variables"]
        assert found["WORKER_URL"] == functions["worker"]["url"], entry
        assert (
            found["TASKS_QUEUE"]
            == queue["id"]
            == f"projects/{PROJECT}/locations/us-central1/queues/unstuck-tasks"
        )
        assert found["TASKS_INVOKER"] == f"unstuck-invoker@{PROJECT}.iam.gserviceaccount.com"
        assert found["GOOGLE_CLOUD_PROJECT"] == PROJECT


def test_no_secret_is_in_the_plan_though_values_were_given(infra):
    assert "S3CRET" not in infra.switched_on.plan
    assert "secret_data_wo" in infra.switched_on.plan, "they were planned to be written"
    planned = resources(json.loads(infra.switched_on.plan))
    versions = [
        one
        for address, one in planned.items()
        if address.startswith("google_secret_manager_secret_version.")
    ]
    assert len(versions) == 3
    for one in versions:
        assert one["secret_data"] is None
        assert one["secret_data_wo_version"] == 3


# -- times


def seconds(text):
    assert text.endswith("s")
    return float(text[:-1])


def test_each_time_is_longer_than_that_which_must_end_before_it(infra):
    functions = {
        name: block(one, "service_config")
        for name, one in infra.of_type("google_cloudfunctions2_function").items()
    }
    [job] = infra.of_type("google_cloud_scheduler_job").values()
    worker, sweep = functions["worker"]["timeout_seconds"], functions["sweep"]["timeout_seconds"]
    for watch in POLICY.watches.values():
        for rule in watch.rules.values():
            assert rule.run_for + POLICY.margin <= worker < rule.silent_for, (
                "guard < platform < sweep's rule"
            )
    assert worker == POLICY.timeout <= 1800, "Cloud Tasks waits for that long at most"
    assert POLICY.sweep_budget + 30 < sweep < seconds(job["attempt_deadline"]) <= 1800
    assert POLICY.beat * 3 <= POLICY.lease
    assert all(one["timeout_seconds"] <= 3600 for one in functions.values())


def test_the_schedule_is_that_of_the_policy(infra):
    [job] = infra.of_type("google_cloud_scheduler_job").values()
    assert (job["schedule"], POLICY.sweep_every, job["time_zone"]) == ("* * * * *", 60, "Etc/UTC")
    assert block(job, "retry_config")["retry_count"] <= 5


def test_a_worker_has_the_memory_that_its_tasks_may_take(infra):
    config = block(infra.of_type("google_cloudfunctions2_function")["worker"], "service_config")
    assert config["available_memory"] == "1Gi"
    assert config["max_instance_request_concurrency"] == 1
    assert (
        max(rule.memory for watch in POLICY.watches.values() for rule in watch.rules.values())
        + 200e6
        < 2**30
    )


def test_a_function_has_a_thread_for_each_request_that_the_platform_sends_at_once(infra):
    for function in infra.of_type("google_cloudfunctions2_function").values():
        config = block(function, "service_config")
        if variables := config["environment_variables"]:
            threads = int(variables["THREADS"])
            assert threads >= config["max_instance_request_concurrency"]


def test_the_queue_pushes_no_more_at_once_than_the_workers_take(infra):
    [queue] = infra.of_type("google_cloud_tasks_queue").values()
    config = block(infra.of_type("google_cloudfunctions2_function")["worker"], "service_config")
    limits = block(queue, "rate_limits")
    assert (
        limits["max_concurrent_dispatches"]
        == config["max_instance_count"] * config["max_instance_request_concurrency"]
    )


# -- who may do what

REMOTE = {"claim_task", "beat_task", "complete_task", "fail_task"}
GIVEN_TO = dict.fromkeys(REMOTE, "remote_workers") | {"page": "page_viewers"}
"""The variable that says who may call; for the others it is api_invokers."""


def test_the_scheduler_calls_the_sweep_with_the_audience_it_wants_by_an_account_that_may(infra):
    if not infra.complete:
        pytest.skip("the sweep's URL is only known after an apply")
    function = infra.of_type("google_cloudfunctions2_function")["sweep"]
    [job] = infra.of_type("google_cloud_scheduler_job").values()
    target = block(job, "http_target")
    token = block(target, "oidc_token")
    assert target["http_method"] == "POST"
    assert target["uri"] == token["audience"] == block(function, "service_config")["uri"]
    may = infra.of_type("google_cloud_run_service_iam_binding")["sweep"]
    assert (may["role"], may["service"], may["location"]) == (
        "roles/run.invoker",
        function["name"],
        job["region"],
    )
    assert may["members"] == [f"serviceAccount:{token['service_account_email']}"]


def test_nobody_but_the_invoker_may_call_what_is_not_for_clients(infra):
    for everything in (False, True):
        for entry, may in infra.of_type(
            "google_cloud_run_service_iam_binding", everything=everything
        ).items():
            if entry in {"worker", "sweep", "worker_event", "rescue"}:
                [member] = may["members"]
                assert re.match(r"serviceAccount:[a-z-]+-invoker@", member)
                continue
            if not everything:
                assert entry in {"create_task", "task_status", "cancel_task"}
                assert may["members"] == [
                    f"serviceAccount:unstuck-invoker@{PROJECT}.iam.gserviceaccount.com"
                ]
                continue
            given = GIVEN_TO.get(entry, "api_invokers")
            own = {one for one in may["members"] if "-invoker@" in one}
            probe = {one for one in may["members"] if "gcp-sa-monitoring" in one}
            assert set(may["members"]) - own - probe == set(EVERYTHING[given])
            assert bool(probe) == (entry == "task_status"), "what the probe calls"
            assert bool(own) == (given == "api_invokers"), "the smoke test calls what clients call"


def test_each_account_may_do_its_own_part_and_no_more(infra):
    members = infra.of_type("google_project_iam_member")
    granted = {tuple(key.split(" ")) for key in members if " " in key}
    assert granted == {
        ("build", "roles/logging.logWriter"),
        ("sweep", "roles/monitoring.metricWriter"),
        ("sweep", "roles/logging.viewer"),
    }
    secrets = {
        tuple(key.split(" ")) for key in infra.of_type("google_secret_manager_secret_iam_member")
    }
    assert secrets == {
        ("DATABASE_URL", "api"),
        ("DATABASE_URL", "worker"),
        ("DATABASE_URL", "sweep"),
        ("DATABASE_URL", "rescue"),
    }
    queue = infra.of_type("google_cloud_tasks_queue_iam_member")
    assert queue["viewer"]["role"] == "roles/cloudtasks.viewer"
    for kind, role in {
        "google_cloud_tasks_queue_iam_member": "roles/cloudtasks.enqueuer",
        "google_service_account_iam_member": "roles/iam.serviceAccountUser",
    }.items():
        found = {
            name: one
            for name, one in infra.of_type(kind).items()
            if "pubsub" not in name and name != "viewer"
        }
        assert set(found) == {"api", "worker", "sweep", "rescue"}
        assert {one["role"] for one in found.values()} == {role}
    sources = members["build_reads_sources"]
    assert block(sources, "condition")["expression"].count("unstuck-") >= 2
    writers = infra.of_type("google_artifact_registry_repository_iam_member")
    assert {one["role"] for one in writers.values()} == {"roles/artifactregistry.writer"}
    assert "roles/owner" not in json.dumps(infra.resources)
    assert "roles/editor" not in json.dumps(infra.resources)


def test_a_secret_is_given_to_the_functions_that_read_it_and_to_no_other(infra):
    given = {}
    for entry, one in infra.of_type("google_cloudfunctions2_function", everything=True).items():
        for secret in block(one, "service_config")["secret_environment_variables"]:
            given.setdefault(secret["key"], set()).add(entry)
    workers = {"worker", "worker_event", "sweep", "rescue"}
    clients = {"create_task", "task_status", "cancel_task", "page"} | REMOTE
    assert given == {
        "SUPABASE_KEY": clients | workers,
        "SUPABASE_JWT_SECRET": clients,
        "NOTIFY_URL": {"sweep"},
        "NOTIFY_SECRET": {"sweep"},
        **{name: {"sweep"} for name in OF_ADDRESSES},
        "CALLBACK_SECRET": clients | {"sweep"},
        "SWEEP_PING_URL": {"sweep"},
    }


def test_who_lets_the_world_in_asks_users_for_their_token(infra):
    for entry, one in infra.of_type("google_cloudfunctions2_function", everything=True).items():
        found = block(one, "service_config")
        env = dict.fromkeys([each["key"] for each in found["secret_environment_variables"]], LONG)
        env |= found["environment_variables"] or {"JWT_AUDIENCE": "only known after an apply"}
        if entry in {"create_task", "task_status", "cancel_task"}:
            assert Settings.read(env).asks_users, entry


def test_where_only_iam_decides_who_calls_the_configuration_says_so(infra):
    for entry, function in infra.of_type("google_cloudfunctions2_function").items():
        env = block(function, "service_config")["environment_variables"]
        if env and entry in {"create_task", "task_status", "cancel_task"}:
            assert env["USERS"] == "none", entry


def test_each_function_runs_as_the_account_of_its_part(infra):
    for entry, one in infra.of_type("google_cloudfunctions2_function").items():
        part = {"worker": "worker", "sweep": "sweep", "rescue": "rescue"}.get(entry, "api")
        assert (
            block(one, "service_config")["service_account_email"]
            == f"unstuck-{part}@{PROJECT}.iam.gserviceaccount.com"
        )


# -- the archive


def test_the_object_is_named_by_its_content(infra):
    if not infra.complete:
        pytest.skip("only known after an apply")
    [source] = [
        one for key, one in infra.of_type("google_storage_bucket_object").items() if key == "source"
    ]
    assert re.fullmatch(r"functions-[0-9a-f]{64}\.zip", source["name"])
    for one in infra.of_type("google_cloudfunctions2_function").values():
        assert block(one, "build_config", "source", "storage_source")["object"] == source["name"]


# -- metrics and alerts


def fields_of(text):
    return set(re.findall(r"jsonPayload\.(\w+)", text))


def test_each_metric_counts_an_event_that_exists_by_fields_that_it_carries(infra):
    for name, metric in infra.of_type("google_logging_metric").items():
        [event] = re.findall(r'jsonPayload\.event="(\w+)"', metric["filter"])
        assert event in events.ALL, name
        extracted = fields_of(
            json.dumps(metric["label_extractors"]) + str(metric["value_extractor"])
        )
        assert extracted | fields_of(metric["filter"]) - {"event"} <= set(
            events.ALL[event].fields
        ), name
        assert set(metric["label_extractors"] or {}) == {
            one["key"] for one in block(metric, "metric_descriptor")["labels"]
        }
        assert not extracted & {
            "task_id",
            "sweep_id",
            "worker",
            "detail",
            "error",
            "owner",
            "token",
        }, "each value costs"
        service = "sweep" if '"sweep_' in metric["filter"] else None
        assert metric["filter"].startswith(f"{base(service)} AND ")


def queries(infra, **which):
    return {
        name.removeprefix("rule."): block(one, "conditions", "condition_prometheus_query_language")
        for name, one in infra.of_type("google_monitoring_alert_policy", **which).items()
        if block(one, "conditions")["condition_prometheus_query_language"]
    }


def test_with_the_bundles_policy_the_rules_are_those_of_the_file(infra):
    """So that promtool, which reads the file, judges what is deployed."""
    written = {
        rule["alert"]: rule
        for group in yaml.safe_load((ALERTS / "rules.yaml").read_text())["groups"]
        for rule in group["rules"]
    }
    found = queries(infra)
    assert set(found) == set(written)
    for name, rule in written.items():
        plain = [re.sub(r"\s*#.*$", "", line) for line in rule["expr"].strip().splitlines()]
        assert found[name]["query"] == "\n".join(plain), name
        assert (found[name]["duration"], found[name]["alert_rule"]) == (rule["for"], name)


def selectors(query):
    """(metric, its labels) of each selector in a PromQL expression."""
    promql_parser = pytest.importorskip("promql_parser", reason="make install")
    found = []

    def walk(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {(one.name, one.value) for one in node.matchers.matchers}))
        for name in ("expr", "lhs", "rhs", "vector_selector", "param", "args"):
            inner = getattr(node, name, None)
            for one in inner if isinstance(inner, list) else [inner] if inner is not None else []:
                walk(one)

    walk(promql_parser.parse(query))
    assert found, query
    return found


def test_each_selector_of_a_rule_and_of_the_dashboard_reads_a_metric_and_labels_that_exist(infra):
    metrics = infra.of_type("google_logging_metric")
    labels = {
        name: {one["key"] for one in block(metric, "metric_descriptor")["labels"]}
        for name, metric in metrics.items()
    }
    written = {
        metric
        for metric, _ in gauges.points(
            POLICY, {"tasks": SimpleNamespace(open=[], live_by_kind={}, overdue=MagicMock())}
        )
    }
    asked = [one["query"] for one in queries(infra).values()] + [
        query for query, _ in charts(infra)
    ]
    for query in asked:
        for name, wanted in selectors(query):
            if name.startswith("custom_googleapis_com:unstuck_"):
                assert wanted == {("monitored_resource", "generic_task"), ("namespace", "unstuck")}
                assert name.removeprefix("custom_googleapis_com:unstuck_") in written, name
                continue
            assert ("monitored_resource", "cloud_run_revision") in wanted, query
            keys = {key for key, _ in wanted} - {"monitored_resource"}
            if name.startswith("run_googleapis_com:"):
                assert ("service_name", f"unstuck-{FUNCTIONS}") in wanted
                assert keys <= {"service_name", "response_code_class"}, query
                continue
            metric = re.fullmatch(r"logging_googleapis_com:user_(\w+?)(_bucket|_sum|_count)?", name)
            assert metric, name
            assert metric[1] in metrics, name
            distribution = (
                block(metrics[metric[1]], "metric_descriptor")["value_type"] == "DISTRIBUTION"
            )
            assert distribution == bool(metric[2]), name
            assert keys <= labels[metric[1]], query


def charts(infra):
    [dashboard] = infra.of_type("google_monitoring_dashboard").values()
    for tile in json.loads(dashboard["dashboard_json"])["mosaicLayout"]["tiles"]:
        for data in tile["widget"]["xyChart"]["dataSets"]:
            yield data["timeSeriesQuery"]["prometheusQuery"].replace("${__interval}", "5m"), tile


def test_what_is_grouped_by_is_a_label(infra):
    metrics = infra.of_type("google_logging_metric")
    known = {
        one["key"]
        for metric in metrics.values()
        for one in block(metric, "metric_descriptor")["labels"]
    }
    known |= {"service_name", "response_code_class", "le"}
    for query, _ in charts(infra):
        for names in re.findall(r"by \(([^)]*)\)", query):
            assert {name.strip() for name in names.split(",")} <= known, query


def test_another_name_is_in_every_query_filter_and_metric(infra):
    everything = infra.everything
    text = json.dumps(
        [
            one
            for address, one in everything.items()
            if "runbook" not in address and "archive" not in address
        ]
    )
    assert not re.search(
        r"unstuck[-_](?!tasks-end)",
        text.replace("Unstuck", "").replace("custom_googleapis_com:unstuck_", ""),
    ), re.findall(r".{60}unstuck[-_].{40}", text)[:3]
    assert "user_two_of_them_task_finished" in text
    assert f'service_name=~\\"^two-of-them-{FUNCTIONS}$\\"' in text
    assert "REGION" not in text
    assert "--location=europe-west1" in text


def logs_explorer_query(url: str) -> str:
    """The query that Logs Explorer shows: it decodes %20 as a space, and takes + as it is."""
    [parameter] = re.findall(r";query=([^;?]*)", url)
    return unquote(parameter)


def test_each_alert_tells_what_broke_and_where_to_read_on(infra):
    for name, one in infra.of_type("google_monitoring_alert_policy").items():
        told = block(one, "documentation")
        page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
        page = page.replace('"^unstuck-"', f'"^unstuck-{FUNCTIONS}$"')
        assert told["content"] == page.replace("REGION", "us-central1")
        assert len(told["content"]) <= 8192
        if infra.complete:
            assert [link["display_name"] for link in told["links"]] == [
                "Runbook",
                "Logs",
                "Dashboard",
            ]
            assert told["links"][0]["url"].endswith(f"/runbooks/{name}.md")
            for link in told["links"]:
                assert re.fullmatch(r"https://[\x21-\x7e]+", link["url"])
            query = logs_explorer_query(told["links"][1]["url"])
            compiled(query)
            [condition] = one["conditions"]
            matched = condition["condition_matched_log"]
            expected = matched[0]["filter"] if matched else f"{BASE} AND severity>=WARNING"
            assert query == expected
        assert told["subject"].startswith("[unstuck] ")
        assert one["severity"] in {"CRITICAL", "WARNING"}
        assert one["display_name"] == f"unstuck/{name}"


def test_every_alert_reaches_every_channel_and_what_is_critical_says_so_again(infra):
    channels = infra.of_type("google_monitoring_notification_channel", everything=True)
    assert sorted(one["type"] for one in channels.values()) == [
        "email",
        "pagerduty",
        "pubsub",
        "slack",
        "webhook_basicauth",
    ]
    alerts = infra.of_type("google_monitoring_alert_policy", everything=True)
    assert "MemoryHigh" not in alerts, "it was switched off"
    assert "SweepSilent" in alerts
    for name, one in alerts.items():
        strategy = block(one, "alert_strategy")
        again = [each["renotify_interval"] for each in strategy["notification_channel_strategy"]]
        metric = not block(one, "conditions")["condition_matched_log"]
        assert again == (["7200s"] if metric and one["severity"] == "CRITICAL" else []), name
        assert bool(strategy["notification_rate_limit"]) != bool(metric), (
            "a log line that repeats must not mail each time"
        )


def message(kind, value):
    """As Google's published type reads it: names, enums and shapes must be right. A block is a list
    in Terraform."""
    from google.protobuf import json_format

    return json_format.ParseDict(shaped(kind.pb().DESCRIPTOR, value), kind.pb()())


def shaped(descriptor, value):
    ours = {"id", "project", "deletion_policy", "timeouts", "creation_record"}
    given = {name: one for name, one in value.items() if one not in (None, [], {}, "")}
    names = descriptor.fields_by_name
    return {
        name: shape(names[name], one)
        for name, one in given.items()
        if name in names or name not in ours
    }


def shape(field, value):
    inner = field.message_type
    if (
        inner is None
        or inner.full_name.startswith("google.protobuf.")
        or inner.GetOptions().map_entry
    ):
        return value
    blocks = [shaped(inner, one) for one in value]
    return blocks if field.is_repeated else blocks[0]


def test_each_alert_is_a_message_of_googles_own_type(infra):
    from google.cloud.monitoring_v3 import AlertPolicy

    for name, one in infra.of_type("google_monitoring_alert_policy").items():
        parsed = message(AlertPolicy, one)
        assert len(parsed.conditions) == 1, name
        assert parsed.conditions[0].WhichOneof("condition")


def test_the_dashboard_is_a_message_of_googles_own_type_and_its_tiles_do_not_overlap(infra):
    from google.cloud.monitoring_dashboard_v1 import Dashboard
    from google.protobuf import json_format

    [one] = infra.of_type("google_monitoring_dashboard").values()
    parsed = json_format.Parse(one["dashboard_json"], Dashboard.pb()())
    tiles = list(parsed.mosaic_layout.tiles)
    assert 8 <= len(tiles) <= 100
    corners = {(tile.x_pos, tile.y_pos) for tile in tiles}
    assert len(corners) == len(tiles)
    assert all(tile.x_pos + tile.width <= parsed.mosaic_layout.columns for tile in tiles)


def test_the_slo_counts_ends_that_are_good_and_bad_and_no_others(infra):
    [slo] = infra.of_type("google_monitoring_slo").values()
    ratio = block(slo, "request_based_sli", "good_total_ratio")
    assert slo["goal"] == 0.99
    assert slo["rolling_period_days"] == 28
    assert 'metric.labels.state="completed"' in ratio["good_service_filter"]
    assert 'metric.labels.state="failed"' in ratio["bad_service_filter"]
    assert not ratio["total_service_filter"], "Google takes exactly two of the three"
