# Log-based metrics: alerts/metrics.yaml says which lines count.
resource "google_logging_metric" "this" {
  for_each    = module.policy.metrics
  name        = each.key
  description = each.value.description
  filter      = each.value.filter

  label_extractors = { for name, field in each.value.labels : name => "EXTRACT(${field})" }
  value_extractor  = each.value.value == null ? null : "EXTRACT(${each.value.value})"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = each.value.value == null ? "INT64" : "DISTRIBUTION"
    unit         = each.value.value == null ? "1" : "s"
    display_name = each.key

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  dynamic "bucket_options" {
    for_each = each.value.value == null ? [] : [true]
    content {
      exponential_buckets { # 1 s to 12 days
        num_finite_buckets = 20
        growth_factor      = 2
        scale              = 1
      }
    }
  }

  depends_on = [time_sleep.apis]
}

# Cloud Monitoring must know the metric before the SLO is made. Alerts need no pause: see disable_metric_validation in alerts.tf.
resource "time_sleep" "metrics" {
  count           = var.slo ? 1 : 0
  create_duration = "60s"
  triggers        = { metrics = join(",", sort(keys(module.policy.metrics))) }
  depends_on      = [google_logging_metric.this]
}
