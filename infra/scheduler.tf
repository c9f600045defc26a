# Cloud Scheduler calls the sweep. A call may come twice; the sweep then sees the same scheduled time and does nothing.
resource "google_cloud_scheduler_job" "sweep" {
  name             = "${var.name}-sweep"
  region           = var.region
  description      = "Ends what is overdue in the tables of the policy"
  schedule         = module.policy.cron
  time_zone        = "Etc/UTC"
  paused           = var.paused
  attempt_deadline = "${local.timeouts.sweep + 30}s"

  retry_config {
    retry_count          = 1 # the next scheduled run comes soon
    min_backoff_duration = "5s"
  }

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.this["sweep"].service_config[0].uri
    oidc_token {
      service_account_email = local.account["invoker"].email
      audience              = google_cloudfunctions2_function.this["sweep"].service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_service_iam_binding.invoker]
}
