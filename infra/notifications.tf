# Who gets the alerts. Tokens and passwords are write-only arguments, so they are in no plan and no state.
# create_before_destroy: Cloud Monitoring refuses to delete a channel that an alert policy names. So the policies are changed
# first, and the channel goes last.
resource "google_monitoring_notification_channel" "email" {
  for_each     = toset(var.notification_emails)
  display_name = "${var.name}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  depends_on   = [time_sleep.apis]
  lifecycle { create_before_destroy = true }
}

resource "google_monitoring_notification_channel" "slack" {
  count        = var.slack == null ? 0 : 1
  display_name = "${var.name}: Slack ${var.slack.channel}"
  type         = "slack"
  labels       = { channel_name = var.slack.channel }
  sensitive_labels {
    auth_token_wo         = var.slack_token
    auth_token_wo_version = var.slack.version
  }
  depends_on = [time_sleep.apis]
  lifecycle { create_before_destroy = true }
}

resource "google_monitoring_notification_channel" "pagerduty" {
  count        = var.pagerduty == null ? 0 : 1
  display_name = "${var.name}: PagerDuty"
  type         = "pagerduty"
  sensitive_labels {
    service_key_wo         = var.pagerduty_key
    service_key_wo_version = var.pagerduty.version
  }
  depends_on = [time_sleep.apis]
  lifecycle { create_before_destroy = true }
}

resource "google_monitoring_notification_channel" "webhook" {
  count        = var.webhook == null ? 0 : 1
  display_name = "${var.name}: ${var.webhook.url}"
  type         = "webhook_basicauth"
  labels       = { url = var.webhook.url, username = var.webhook.username }
  sensitive_labels {
    password_wo         = var.webhook_password
    password_wo_version = var.webhook.version
  }
  depends_on = [time_sleep.apis]
  lifecycle { create_before_destroy = true }
}

resource "google_pubsub_topic" "alerts" {
  count        = var.alerts_topic ? 1 : 0
  name         = "${var.name}-alerts"
  kms_key_name = var.kms_key
  depends_on   = [time_sleep.apis]
}

resource "google_pubsub_topic_iam_member" "alerts" {
  count  = var.alerts_topic ? 1 : 0
  topic  = google_pubsub_topic.alerts[0].id
  role   = "roles/pubsub.publisher"
  member = google_project_service_identity.agent["monitoring"].member # Cloud Monitoring's own account for notifications
}

resource "google_monitoring_notification_channel" "topic" {
  count        = var.alerts_topic ? 1 : 0
  display_name = "${var.name}: Pub/Sub"
  type         = "pubsub"
  labels       = { topic = google_pubsub_topic.alerts[0].id }
  lifecycle { create_before_destroy = true }
}

locals {
  channels = concat(
    [for one in google_monitoring_notification_channel.email : one.id],
    google_monitoring_notification_channel.slack[*].id,
    google_monitoring_notification_channel.pagerduty[*].id,
    google_monitoring_notification_channel.webhook[*].id,
    google_monitoring_notification_channel.topic[*].id,
    var.notification_channels,
  )
}

check "someone_is_told" {
  assert {
    condition     = length(var.notification_emails) + length(var.notification_channels) > 0 || var.slack != null || var.pagerduty != null || var.webhook != null || var.alerts_topic
    error_message = "Nobody is told: alerts open incidents that only the console shows. Set notification_emails, slack, pagerduty, webhook or alerts_topic."
  }
}
