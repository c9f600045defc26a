# An alert policy for each rule of alerts/rules.yaml and each line of alerts/log_match.yaml, with its page as the text of
# the notification.
locals {
  rules     = { for name, rule in module.policy.rules : name => rule if !contains(var.alerts_off, name) }
  log_match = { for name, alert in module.policy.log_match : name => alert if !contains(var.alerts_off, name) }
  # With the names and the region of this installation in their commands.
  runbooks = {
    for name in concat(keys(local.rules), keys(local.log_match), keys(local.optional)) : name => replace(replace(replace(
      file("${path.module}/runbooks/${name}.md"), "\"^unstuck-\"", "\"^${module.policy.services}$\""), "unstuck-", "${var.name}-"), "REGION", var.region
    )
  }

  runbook_urls = {
    for name in keys(local.runbooks) : name =>
    var.runbooks_url == null ? "https://storage.cloud.google.com/${local.bucket}/runbooks/${name}.md" : "${var.runbooks_url}/${name}.md"
  }
  # Logs Explorer does not read + as a space, which is what urlencode writes for it.
  logs_queries = merge(
    { for name in concat(keys(local.rules), keys(local.optional)) : name => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${module.policy.services}$\" AND severity>=WARNING" },
    { for name, alert in local.log_match : name => alert.filter },
  )
  logs_urls = {
    for name, query in local.logs_queries : name =>
    "https://console.cloud.google.com/logs/query;query=${replace(urlencode(query), "+", "%20")}?project=${var.project_id}"
  }
  dashboard_url = one([for one in google_monitoring_dashboard.this : "https://console.cloud.google.com/monitoring/dashboards/builder/${reverse(split("/", one.id))[0]}?project=${var.project_id}"])
  links = {
    for name in keys(local.runbooks) : name => concat(
      [{ name = "Runbook", url = local.runbook_urls[name] }, { name = "Logs", url = local.logs_urls[name] }],
      var.dashboard ? [{ name = "Dashboard", url = local.dashboard_url }] : [],
    )
  }

  labels = merge({ app = var.name }, var.labels)
}

resource "google_monitoring_alert_policy" "rule" {
  for_each              = local.rules
  display_name          = "${var.name}/${each.key}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = merge(local.labels, { alert = lower(each.key) })

  conditions {
    display_name = each.value.summary
    condition_prometheus_query_language {
      query                     = each.value.expr
      duration                  = each.value.for
      evaluation_interval       = each.value.interval
      alert_rule                = each.key
      rule_group                = var.name
      disable_metric_validation = true # without this, a metric that has no value yet would be refused, and with it the first apply
    }
  }

  alert_strategy {
    auto_close           = "86400s"
    notification_prompts = ["OPENED", "CLOSED"]

    dynamic "notification_channel_strategy" {
      for_each = each.value.severity == "CRITICAL" && length(local.channels) > 0 ? [true] : []
      content {
        notification_channel_names = local.channels
        renotify_interval          = var.renotify
      }
    }
  }

  documentation {
    subject   = "[${var.name}] ${each.value.summary}"
    content   = local.runbooks[each.key]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = local.links[each.key]
      content {
        display_name = links.value.name
        url          = links.value.url
      }
    }
  }

  depends_on = [google_logging_metric.this]
}

resource "google_monitoring_alert_policy" "log_match" {
  for_each              = local.log_match
  display_name          = "${var.name}/${each.key}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = merge(local.labels, { alert = lower(each.key) })

  conditions {
    display_name = each.value.summary
    condition_matched_log {
      filter           = each.value.filter
      label_extractors = each.value.labels_from
    }
  }

  alert_strategy {
    auto_close = "3600s"
    notification_rate_limit {
      period = each.value.every
    }
  }

  documentation {
    subject   = "[${var.name}] ${each.value.summary}"
    content   = local.runbooks[each.key]
    mime_type = "text/markdown"
    dynamic "links" {
      for_each = local.links[each.key]
      content {
        display_name = links.value.name
        url          = links.value.url
      }
    }
  }
}

check "alerts_off" {
  assert {
    condition     = length(setsubtract(var.alerts_off, concat(keys(module.policy.rules), keys(module.policy.log_match)))) == 0
    error_message = "alerts_off names alerts that do not exist: ${join(", ", setsubtract(var.alerts_off, concat(keys(module.policy.rules), keys(module.policy.log_match))))}. See infra/alerts/."
  }
}
