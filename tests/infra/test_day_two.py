"""After the first day: somebody leaves the notifications, a secret is added, all is destroyed and
comes back. tfmock refuses what the platform refuses."""

import re
from typing import Any

import pytest

from tests.infra.conftest import EVERYTHING, PROJECT, Infra
from tests.terraform import ROOT, Done, Mocked, arguments, resources

pytestmark = pytest.mark.timeout(1500)
README = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
ONE_ALERT = 'google_monitoring_alert_policy.rule["SweepSilent"]'
SWEEP = 'google_cloudfunctions2_function.this["sweep"]'
PARTS = ("api", "worker", "sweep", "rescue", "invoker", "build")
BROUGHT = {
    "accounts": {part: f"{part}@{PROJECT}.iam.gserviceaccount.com" for part in PARTS},
    "source_bucket": EVERYTHING["source_bucket"],
    "repository": EVERYTHING["repository"],
    "probe": True,
    "dead_letters": True,
}
QUEUE = "google_cloud_tasks_queue.this"


def apply(cloud: Mocked, *targets: str, **variables: Any) -> Done:
    """Only the targets and what they need, which takes a quarter of the time."""
    chosen = [f"-target={target}" for target in targets]
    return cloud.run(
        "apply", "-auto-approve", *chosen, *arguments({"project_id": PROJECT, **variables})
    )


def test_all_that_can_be_switched_on_is_made_at_once_in_a_new_project(infra: Infra) -> None:
    if not infra.complete:
        pytest.skip("nothing was applied: only tfmock applies without a cloud")
    assert infra.switched_on.codes["apply"] == 0, infra.switched_on.outputs["apply"]


@pytest.mark.parametrize("there", [{}, BROUGHT], ids=["all is made", "much was there"])
def test_whatever_calls_an_api_waits_for_it_and_sizes_fit_a_new_project_in_a_small_region(
    cloud: Mocked, there: dict[str, Any]
) -> None:
    assert cloud.warnings(project_id=PROJECT, alerts_topic=True, **there) == []


def test_who_leaves_the_notifications_is_taken_out_of_the_alerts_first(cloud: Mocked) -> None:
    channels = [
        f"google_monitoring_notification_channel.{kind}"
        for kind in ("email", "slack", "pagerduty", "webhook", "topic")
    ]
    everyone: dict[str, Any] = {
        "notification_emails": ["a@example.com", "b@example.com"],
        "slack": {"channel": "#alerts"},
        "slack_token": "x",
        "pagerduty": {},
        "pagerduty_key": "x",
        "webhook": {"url": "https://example.com/hook", "username": "unstuck"},
        "webhook_password": "x",
        "alerts_topic": True,
    }
    assert apply(cloud, ONE_ALERT, *channels, **everyone).returncode == 0
    without = apply(cloud, ONE_ALERT, *channels, notification_emails=["a@example.com"])
    assert without.returncode == 0, without.stdout
    steps = re.findall(
        r"^google_monitoring_(alert_policy|notification_channel)\S*: (\w+ complete)",
        without.stdout,
        re.MULTILINE,
    )
    assert (
        steps
        == [("alert_policy", "Modifications complete")]
        + [("notification_channel", "Destruction complete")] * 5
    )


def test_a_secret_without_a_value_stops_the_apply_with_the_next_step_and_changes_no_function(
    cloud: Mocked,
) -> None:
    assert apply(cloud, SWEEP).returncode == 0
    before = resources(cloud.state())[SWEEP]["service_config"]
    refused = apply(cloud, SWEEP, notify={})
    assert refused.returncode == 1
    [heading] = re.findall(r'README.md, "([^"]+)"', refused.stdout)
    assert f"### {heading}\n" in README
    assert resources(cloud.state())[SWEEP]["service_config"] == before
    cloud.fill("unstuck-notify-url")
    assert apply(cloud, SWEEP, notify={}).returncode == 0


def test_after_a_destroy_the_queue_needs_another_name_and_the_error_says_so(cloud: Mocked) -> None:
    assert apply(cloud, QUEUE).returncode == 0
    gone = cloud.run("destroy", "-auto-approve", f"-var=project_id={PROJECT}")
    assert gone.returncode == 0, gone.stdout
    refused = apply(cloud, QUEUE)
    assert refused.returncode == 1
    [heading] = re.findall(r'README.md, "([^"]+)"', refused.stdout)
    assert f"### {heading}\n" in README
    assert apply(cloud, QUEUE, queue={"name": "unstuck-tasks-2"}).returncode == 0


def test_who_may_call_is_written_again_for_a_function_that_was_made_again(cloud: Mocked) -> None:
    """A new service has no bindings, and the old state of Terraform would still have one."""
    binding = 'google_cloud_run_service_iam_binding.invoker["sweep"]'
    assert apply(cloud, binding).returncode == 0
    replaced = [f"-replace={SWEEP}", f"-target={binding}", f"-var=project_id={PROJECT}"]
    planned = cloud.run("plan", *replaced)
    assert f"{binding} will be replaced" in planned.stdout, planned.stdout


def test_an_apply_leaves_the_instances_of_a_pool_to_its_schedule() -> None:
    text = (ROOT / "infra" / "pool.tf").read_text(encoding="utf-8")
    [pool] = re.findall(
        r'^resource "google_cloud_run_v2_worker_pool" .*?^}', text, re.MULTILINE | re.DOTALL
    )
    assert re.search(r"ignore_changes += \[scaling\[0\]\.manual_instance_count\]", pool)
    assert re.search(r"replace_triggered_by += \[terraform_data\.pool_instances\[", pool), (
        "another number in `pools` would change nothing"
    )
