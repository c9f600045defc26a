# The goal as a number: the share of tasks that end well among those that end. Cancelled tasks are not counted.
resource "google_monitoring_custom_service" "tasks" {
  count        = var.slo ? 1 : 0
  service_id   = "${var.name}-tasks"
  display_name = "${var.name}: tasks"
  depends_on   = [time_sleep.apis]
}

resource "google_monitoring_slo" "tasks_end_well" { # "metric ... is unknown"? Apply again in some minutes, or set slo = false
  count               = var.slo ? 1 : 0
  service             = google_monitoring_custom_service.tasks[0].service_id
  slo_id              = "${var.name}-tasks-end-well"
  display_name        = "${module.policy.goal * 100} % of the tasks that end, end well (28 days)"
  goal                = module.policy.goal
  rolling_period_days = 28

  request_based_sli {
    good_total_ratio {
      good_service_filter = "${local.finished} AND metric.labels.state=\"completed\""
      bad_service_filter  = "${local.finished} AND metric.labels.state=\"failed\""
    }
  }

  depends_on = [time_sleep.metrics]
}

locals {
  finished = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.this["${module.policy.prefix}_task_finished"].name}\" AND resource.type=\"cloud_run_revision\""
}
