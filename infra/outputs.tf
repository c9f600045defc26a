output "functions" {
  description = "The URL of each function, by entry point."
  value       = { for entry, function in google_cloudfunctions2_function.this : entry => function.service_config[0].uri }
}

output "worker_url" {
  description = "Where tasks are pushed to."
  value       = local.worker_url
}

output "sweep_job" {
  description = "The Cloud Scheduler job of the sweep."
  value       = google_cloud_scheduler_job.sweep.id
}

output "queue" {
  description = "The Cloud Tasks queue."
  value       = google_cloud_tasks_queue.this.id
}

output "invoker" {
  description = "The account that calls the workers and the sweep."
  value       = local.account["invoker"].email
}

output "secrets" {
  description = "The secrets that need a value, by the name of their variable."
  value       = { for name, secret in google_secret_manager_secret.this : name => secret.secret_id }
}

output "alerts" {
  description = "The alert policies."
  value       = merge({ for name, one in google_monitoring_alert_policy.rule : name => one.id }, { for name, one in google_monitoring_alert_policy.log_match : name => one.id }, { for name, one in google_monitoring_alert_policy.optional : name => one.id })
}

output "metrics" {
  description = "The log-based metrics."
  value       = sort(keys(google_logging_metric.this))
}

output "dashboard" {
  description = "The dashboard; null without one."
  value       = local.dashboard_url
}

output "smoke" {
  description = "What infra/smoke.py must know: whether users are asked for a token, whether the sweep can be called from outside, and the watch in which it may create a task of the sample handler."
  value = {
    users    = var.users != "none"
    internal = var.internal_ingress
    watch    = fileexists("${path.module}/../functions/handlers/selection.py") ? module.policy.own_watch : null
  }
}
