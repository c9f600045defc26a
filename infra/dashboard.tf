# One page of charts: whether tasks end in time, what fails and why, whether workers live, whether the sweep runs.
locals {
  user    = "logging_googleapis_com:user_${module.policy.prefix}"
  ours    = "monitored_resource=\"cloud_run_revision\""
  service = "${local.ours},service_name=~\"${module.policy.services}\""

  gauges = "custom_googleapis_com:unstuck" # functions/sweep/gauges.py

  charts = concat([
    { title = "Ended tasks by state", unit = "1", query = "sum by (state) (rate(${local.user}_task_finished{${local.ours}}[$${__interval}])) * 60" },
    { title = "Failed, by reason", unit = "1", query = "sum by (reason) (rate(${local.user}_task_finished{${local.ours},state=\"failed\"}[$${__interval}])) * 60" },
    { title = "Failed, by kind", unit = "1", query = "sum by (kind) (rate(${local.user}_task_finished{${local.ours},state=\"failed\"}[$${__interval}])) * 60" },
    { title = "How long a task works (p95)", unit = "s", query = "histogram_quantile(0.95, sum by (le, kind) (rate(${local.user}_task_seconds_bucket{${local.ours}}[$${__interval}])))" },
    { title = "Created tasks by kind", unit = "1", query = "sum by (kind) (rate(${local.user}_task_created{${local.ours}}[$${__interval}])) * 60" },
    { title = "Oldest task that waits", unit = "s", query = "sum(rate(${local.user}_oldest_pending_seconds_sum{${local.ours}}[$${__interval}])) / sum(rate(${local.user}_oldest_pending_seconds_count{${local.ours}}[$${__interval}]))" },
    { title = "Oldest task past its time", unit = "s", query = "sum(rate(${local.user}_oldest_overdue_seconds_sum{${local.ours}}[$${__interval}])) / sum(rate(${local.user}_oldest_overdue_seconds_count{${local.ours}}[$${__interval}]))" },
    { title = "Rescued tasks by reason", unit = "1", query = "sum by (reason) (rate(${local.user}_task_requeued{${local.ours},by=~\"sweep|status|claim|platform\"}[$${__interval}])) * 60" },
    { title = "Writes refused (lost leases)", unit = "1", query = "sum by (wanted) (rate(${local.user}_lease_lost{${local.ours}}[$${__interval}])) * 60" },
    { title = "Sweeps by outcome", unit = "1", query = "sum by (outcome) (rate(${local.user}_sweep_finished{${local.ours}}[$${__interval}])) * 60" },
    { title = "Answers by function and class", unit = "1", query = "sum by (service_name, response_code_class) (rate(run_googleapis_com:request_count{${local.service}}[$${__interval}])) * 60" },
    { title = "Memory used (p99)", unit = "10^2.%", query = "histogram_quantile(0.99, sum by (service_name, le) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.service}}[$${__interval}])))" },
    ], !var.gauges ? [] : [
    { title = "Open tasks by state and kind", unit = "1", query = "sum by (state, kind) (${local.gauges}_open_tasks{monitored_resource=\"generic_task\",namespace=\"${var.name}\"})" },
    { title = "Oldest open task by state and kind", unit = "s", query = "max by (state, kind) (${local.gauges}_oldest_seconds{monitored_resource=\"generic_task\",namespace=\"${var.name}\"})" },
    { title = "Attempts at work by kind", unit = "1", query = "sum by (kind) (${local.gauges}_live_attempts{monitored_resource=\"generic_task\",namespace=\"${var.name}\"})" },
  ])
}

resource "google_monitoring_dashboard" "this" {
  count = var.dashboard ? 1 : 0
  dashboard_json = jsonencode({
    displayName = "${var.name}: tasks"
    mosaicLayout = {
      columns = 48
      # The API leaves zeros and empty texts out of its answer: written here, each plan would show them as a change.
      tiles = [
        for index, chart in local.charts : merge(
          { for name, at in { xPos = index % 3 * 16, yPos = floor(index / 3) * 16 } : name => at if at != 0 },
          {
            width = 16, height = 16
            widget = {
              title = chart.title
              xyChart = {
                dataSets = [{
                  plotType        = "LINE"
                  targetAxis      = "Y1"
                  timeSeriesQuery = { prometheusQuery = chart.query, unitOverride = chart.unit }
                }]
                yAxis = merge({ scale = "LINEAR" }, strcontains(chart.query, "rate(") && chart.unit == "1" ? { label = "a minute" } : {})
              }
            }
          },
        )
      ]
    }
  })

  depends_on = [google_logging_metric.this]
}
