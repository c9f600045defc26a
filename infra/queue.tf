# Cloud Tasks pushes tasks to the worker. The code creates them (functions/core/dispatch.py), each with its own deadline.
resource "google_cloud_tasks_queue" "this" { # "existed too recently"? Set queue = {name = ...}: README.md, "Destroy, and come back"
  name     = coalesce(var.queue.name, "${var.name}-tasks")
  location = var.region

  rate_limits {
    max_dispatches_per_second = var.queue.max_dispatches_per_second
    max_concurrent_dispatches = var.sizes.worker.max * var.sizes.worker.concurrency # more than the workers can take at once: they would answer 429
  }

  retry_config {
    max_attempts  = var.queue.max_attempts
    min_backoff   = var.queue.min_backoff
    max_backoff   = var.queue.max_backoff
    max_doublings = 6
  }

  depends_on = [time_sleep.apis]
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = toset(local.pushers)
  name     = google_cloud_tasks_queue.this.name
  location = var.region
  role     = "roles/cloudtasks.enqueuer"
  member   = local.account[each.value].member
}

# The sweep asks whether a push is still in the queue before it sends one again.
resource "google_cloud_tasks_queue_iam_member" "viewer" {
  name     = google_cloud_tasks_queue.this.name
  location = var.region
  role     = "roles/cloudtasks.viewer"
  member   = local.account["sweep"].member
}
