# What the sweep and the log cannot tell, each switched on by a variable: a probe from outside the project, and lines that the
# function rescue never took.
locals {
  optional = merge(
    var.probe ? { ProbeFailing = { severity = "CRITICAL", summary = "task_status does not answer from outside" } } : {},
    var.dead_letters ? { DeadLetters = { severity = "WARNING", summary = "Messages were given up after many tries" } } : {},
  )
}

# Cloud Monitoring asks from several continents for a task that does not exist, with the token of its own agent. The answer is an
# error of our code (404, or 401 where users are asked for a token), never one of the platform: those are no JSON.
resource "google_monitoring_uptime_check_config" "probe" {
  count        = var.probe ? 1 : 0
  display_name = "${var.name} task-status"
  period       = "300s"
  timeout      = "30s"

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = trimprefix(google_cloudfunctions2_function.this["task_status"].service_config[0].uri, "https://")
    }
  }

  http_check {
    path         = "/?task_id=00000000-0000-0000-0000-000000000000"
    port         = 443
    use_ssl      = true
    validate_ssl = true

    accepted_response_status_codes {
      status_class = "STATUS_CLASS_4XX"
    }
    service_agent_authentication {
      type = "OIDC_TOKEN"
    }
  }

  content_matchers {
    content = "\"error\""
    matcher = "CONTAINS_STRING"
  }

  depends_on = [google_cloud_run_service_iam_binding.invoker]
}

resource "google_pubsub_topic" "dead" {
  count                      = var.dead_letters ? 1 : 0
  name                       = "${var.name}-dead"
  message_retention_duration = "604800s" # to be read by hand
  kms_key_name               = var.kms_key
  depends_on                 = [time_sleep.apis]
}

resource "google_pubsub_topic_iam_member" "dead" {
  count  = var.dead_letters ? 1 : 0
  topic  = google_pubsub_topic.dead[0].id
  role   = "roles/pubsub.publisher"
  member = google_project_service_identity.agent["pubsub"].member
}

resource "google_pubsub_subscription_iam_member" "dead" {
  count        = var.dead_letters ? 1 : 0
  subscription = google_pubsub_subscription.gone[0].name
  role         = "roles/pubsub.subscriber"
  member       = google_project_service_identity.agent["pubsub"].member
}

resource "google_monitoring_alert_policy" "optional" {
  for_each              = local.optional
  display_name          = "${var.name}/${each.key}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = merge(local.labels, { alert = lower(each.key) })

  conditions {
    display_name = each.value.summary

    # More than one place saw a failure: one alone may be that place.
    dynamic "condition_threshold" {
      for_each = each.key == "ProbeFailing" ? [google_monitoring_uptime_check_config.probe[0].uptime_check_id] : []
      content {
        filter          = "metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id=\"${condition_threshold.value}\" AND resource.type=\"uptime_url\""
        comparison      = "COMPARISON_GT"
        threshold_value = 1
        duration        = "300s"
        aggregations {
          alignment_period     = "600s"
          per_series_aligner   = "ALIGN_NEXT_OLDER"
          cross_series_reducer = "REDUCE_COUNT_FALSE"
          group_by_fields      = ["resource.label.host"]
        }
        trigger {
          count = 1
        }
      }
    }

    dynamic "condition_prometheus_query_language" {
      for_each = each.key == "DeadLetters" ? [google_pubsub_subscription.gone[0].name] : []
      content {
        query                     = "sum(increase(pubsub_googleapis_com:subscription_dead_letter_message_count{monitored_resource=\"pubsub_subscription\",subscription_id=\"${condition_prometheus_query_language.value}\"}[15m])) > 0"
        duration                  = "0s"
        evaluation_interval       = "60s"
        alert_rule                = each.key
        rule_group                = var.name
        disable_metric_validation = true # as in alerts.tf
      }
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
}
