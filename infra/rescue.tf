# The platform writes down at once that it ended an instance: a sink takes these lines to the function rescue, which ends what that
# instance held. Without it (rescue = false) the sweep does so when the lease is over.
locals {
  # A heavy line or an unknown one costs a call and ends nothing: the function decides by the instance.
  # The log of the platform is varlog/system or //var/log/system: both names were seen.
  gone = join(" AND ", [
    "(${join(" OR ", local.workers)})",
    "((logName:\"log%2Fsystem\" AND (${join(" OR ", [for text in local.gone_texts : "textPayload:\"${text}\""])})) OR (logName:\"run.googleapis.com%2Frequests\" AND (httpRequest.status=504 OR textPayload:\"using too much memory\")))",
  ])
  workers = concat(
    ["(resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${var.name}-worker\" OR \"${var.name}-worker-event\"))"],
    [for name in keys(var.pools) : "(resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${var.name}-pool-${name}\")"],
  )
  gone_texts = [
    "memory limit", "Out-of-memory event", "using too much memory", "Shutting down user disabled instance",
    "Container terminated", "Container called exit(",
  ]
}

resource "google_pubsub_topic" "gone" {
  count                      = var.rescue ? 1 : 0
  name                       = "${var.name}-gone"
  message_retention_duration = "3600s" # what is older was rescued by the sweep
  kms_key_name               = var.kms_key
  depends_on                 = [time_sleep.apis]
}

resource "google_logging_project_sink" "gone" {
  count                  = var.rescue ? 1 : 0
  name                   = "${var.name}-gone"
  description            = "Lines of the platform about instances of workers that ended"
  destination            = "pubsub.googleapis.com/${google_pubsub_topic.gone[0].id}"
  filter                 = local.gone
  unique_writer_identity = true
}

resource "google_pubsub_topic_iam_member" "gone" {
  count  = var.rescue ? 1 : 0
  topic  = google_pubsub_topic.gone[0].id
  role   = "roles/pubsub.publisher"
  member = google_logging_project_sink.gone[0].writer_identity
}

# Pub/Sub calls with the invoker's token. In projects from before April 2021 its agent may not make one by itself.
resource "google_service_account_iam_member" "pubsub_as_invoker" {
  count              = var.rescue ? 1 : 0
  service_account_id = local.account["invoker"].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = google_project_service_identity.agent["pubsub"].member
}

resource "google_pubsub_subscription" "gone" {
  count                      = var.rescue ? 1 : 0
  name                       = "${var.name}-gone"
  topic                      = google_pubsub_topic.gone[0].id
  ack_deadline_seconds       = local.timeouts.rescue
  message_retention_duration = "3600s"

  push_config {
    push_endpoint = google_cloudfunctions2_function.this["rescue"].service_config[0].uri
    oidc_token {
      service_account_email = local.account["invoker"].email
      audience              = google_cloudfunctions2_function.this["rescue"].service_config[0].uri
    }
  }

  dynamic "dead_letter_policy" {
    for_each = google_pubsub_topic.dead
    content {
      dead_letter_topic     = dead_letter_policy.value.id
      max_delivery_attempts = 20
    }
  }

  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }

  expiration_policy {
    ttl = "" # never: by default a subscription is deleted after 31 days without a message
  }

  depends_on = [google_cloud_run_service_iam_binding.invoker, google_service_account_iam_member.pubsub_as_invoker]
}
