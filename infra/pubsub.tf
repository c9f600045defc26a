# Optional: tasks as messages {"task_id": "..."}. The trigger is part of the function worker_event (functions.tf).
resource "google_pubsub_topic" "tasks" {
  count                      = var.pubsub ? 1 : 0
  name                       = "${var.name}-tasks"
  message_retention_duration = "86400s"
  kms_key_name               = var.kms_key
  depends_on                 = [time_sleep.apis]
}
