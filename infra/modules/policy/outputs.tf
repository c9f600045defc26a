output "times" {
  description = "The times of the policy in seconds, such as times[\"platform.timeout\"]."
  value       = local.times

  precondition {
    condition     = length(local.no_time) == 0
    error_message = "policy: ${join(", ", local.no_time)} must be a time above 0 such as 30s, 5m or 2h. Set it (functions/policy.yaml has all of them)."
  }
  precondition {
    condition     = local.times["lease.for"] >= 3 * local.times["lease.beat"]
    error_message = "policy: lease.for is ${local.times["lease.for"]} s, less than 3 beats of ${local.times["lease.beat"]} s: one late beat would end a healthy task. Raise lease.for, or lower lease.beat."
  }
  precondition {
    condition     = local.times["platform.margin"] < local.times["platform.timeout"]
    error_message = "policy: platform.margin must be shorter than platform.timeout. Lower it."
  }
  precondition {
    condition     = length(local.too_long) == 0
    error_message = "policy: run_for of ${join(", ", local.too_long)} is longer than platform.timeout less platform.margin (${local.times["platform.timeout"] - local.times["platform.margin"]} s): the guard must end the work before the platform gives up. Lower run_for, raise platform.timeout, or set `runs_on: pool`."
  }
  precondition {
    condition     = length(local.too_early) == 0
    error_message = "policy: silent_for of ${join(", ", local.too_early)} is not longer than platform.timeout (${local.times["platform.timeout"]} s): the sweep would end work that still runs. Raise silent_for."
  }
  precondition {
    condition     = length(local.too_late) == 0
    error_message = "policy: redispatch_after of ${join(", ", local.too_late)} is not shorter than pending_for: a lost push would never be sent again. Lower redispatch_after."
  }
  precondition {
    condition     = local.times["sweep.budget"] < local.times["sweep.every"]
    error_message = "policy: sweep.budget must be shorter than sweep.every, or runs pile up. Lower it."
  }
  precondition {
    condition     = local.times["sweep.budget"] <= 1500
    error_message = "policy: sweep.budget may be 1500 s at most: Cloud Scheduler waits for 30 minutes. Lower it."
  }
  precondition {
    condition     = local.times["platform.timeout"] <= 1800
    error_message = "policy: platform.timeout is ${local.times["platform.timeout"]} s, but Cloud Tasks waits 1800 s for an answer and then delivers the task a second time. Lower it; for longer work set `runs_on: pool` in its rule."
  }
  precondition {
    condition     = local.times["platform.timeout"] >= 15
    error_message = "policy: platform.timeout must be 15 s at least: Cloud Tasks takes no shorter deadline. Raise it."
  }
}

output "cron" {
  description = "sweep.every as a cron schedule."
  value       = local.minutes >= 60 ? "0 */${floor(local.minutes / 60)} * * *" : local.minutes <= 1 ? "* * * * *" : "*/${floor(local.minutes)} * * * *"

  precondition {
    condition     = contains([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720], local.minutes)
    error_message = "policy: sweep.every is ${local.times["sweep.every"]} s, which Cloud Scheduler cannot do evenly. Take 1, 2, 3, 4, 5, 6, 10, 12, 15, 20 or 30 minutes, or 1, 2, 3, 4, 6, 8 or 12 hours."
  }
}

output "memory" {
  description = "The largest memory limit of any kind that runs on a function, in bytes."
  value       = max(concat([0], [for kind, bytes in local.needs : bytes if !contains(keys(local.on_pool), kind)])...)

  precondition {
    condition     = alltrue([for bytes in values(local.needs) : bytes > 0])
    error_message = "policy: memory of each rule must be a size such as 400MB or 1GiB. Set it."
  }
}

output "pool_kinds" {
  description = "The kinds that run on a pool, with the memory that each may take, in bytes."
  value       = { for kind in keys(local.on_pool) : split(".", kind)[1] => local.needs[kind]... }
}

output "goal" {
  description = "The share of tasks that must end well among those that end."
  value       = local.goal

  precondition {
    condition     = length(local.no_number) == 0
    error_message = "policy: ${join(", ", local.no_number)} must be a number. Copy the sections slo and alerts from the bundle's functions/policy.yaml."
  }
  precondition {
    condition     = local.goal >= 0.5 && local.goal <= 0.9999
    error_message = "policy: slo.goal must be from 0.5 to 0.9999, such as 0.99."
  }
}

output "rules" {
  description = "The alerts by name, with the policy's numbers in them."
  value       = local.rules

  precondition {
    condition     = local.times["alerts.sweep_silent"] >= local.latest
    error_message = "policy: alerts.sweep_silent is ${local.times["alerts.sweep_silent"]} s, but ${local.latest} s pass until three sweeps are missed and their log lines are surely not just late. Raise it to that."
  }
  precondition {
    condition     = local.times["alerts.pending"] < local.longest
    error_message = "policy: alerts.pending is not shorter than pending_for (${local.longest} s), at which a task fails: the alert could never fire. Lower it."
  }
  precondition {
    condition     = alltrue([for name in ["alerts.rescued_share", "alerts.errors_share", "alerts.memory_share"] : coalesce(local.numbers[name], 0) > 0 && coalesce(local.numbers[name], 0) < 1])
    error_message = "policy: alerts.rescued_share, alerts.errors_share and alerts.memory_share must be between 0 and 1, such as 0.05."
  }
  precondition {
    condition     = alltrue([for name in ["alerts.least_ended", "alerts.least_rescued", "alerts.lost_leases"] : coalesce(local.numbers[name], 0) >= 1])
    error_message = "policy: alerts.least_ended, alerts.least_rescued and alerts.lost_leases must be 1 at least."
  }
  precondition {
    condition     = (1 - local.goal) * 14.4 < 1
    error_message = "policy: with slo.goal ${local.goal} TaskFailureBurnFast could never fire: 14.4 times its budget is more than all tasks. Raise slo.goal above 0.93, or put \"TaskFailureBurnFast\" into alerts_off and lower it in alerts/rules.yaml."
  }
  precondition {
    condition     = length(local.unknown_marks) == 0
    error_message = "alerts/rules.yaml: ${join(", ", local.unknown_marks)} is no number of the policy. Add it there, or mend the comment."
  }
  precondition {
    condition     = length(local.too_wide) == 0
    error_message = "alerts/rules.yaml: the window and `for` of ${join(", ", local.too_wide)} are more than 25 hours together, which Cloud Monitoring refuses. Shorten the window."
  }
  precondition {
    condition     = length(local.unknown) == 0
    error_message = "alerts/rules.yaml: ${join(", ", local.unknown)} is in no filter of alerts/metrics.yaml, so that the alert could never fire. Add the metric, or mend its name."
  }
}

output "metrics" {
  description = "The log-based metrics by name."
  value       = local.metrics
}

output "log_match" {
  description = "The alerts on single log lines by name."
  value       = local.log_match

  precondition {
    condition     = length(setintersection(keys(local.log_match), keys(local.rules))) == 0
    error_message = "alerts/: a name stands in rules.yaml and in log_match.yaml. Rename one."
  }
}

output "prefix" {
  description = "The prefix of the names of metrics."
  value       = local.prefix
}

output "own_watch" {
  description = "The watch of our own table, or null if there are only adopted ones."
  value       = try(local.own[0], null)
}

output "services" {
  description = "A regular expression of the names of this installation's Cloud Run services."
  value       = local.services
}
