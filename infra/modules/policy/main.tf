# Reads the policy and the alerts, refuses numbers that do not fit together, and puts the policy's numbers into the alerts.
# It uses no provider, so it can be tested alone. functions/core/policy.py reads the same file and refuses the same numbers.
locals {
  root    = yamldecode(var.policy)
  seconds = { s = 1, m = 60, h = 3600, d = 86400, "" = 1 }

  # The rule of each kind, by "watch.kind": its own values, else those of "*".
  kinds = merge([
    for watch, one in local.root.watches : {
      for kind, rule in one.rules : "${watch}.${kind}" => merge(one.rules["*"], rule)
    }
  ]...)
  on_pool    = { for kind, rule in local.kinds : kind => rule if try(rule.runs_on, "function") == "pool" && !endswith(kind, ".*") }
  kind_times = ["pending_for", "redispatch_after", "run_for", "silent_for"]

  written = merge(
    {
      "platform.timeout"    = try(local.root.platform.timeout, "")
      "platform.margin"     = try(local.root.platform.margin, "")
      "lease.beat"          = try(local.root.lease.beat, "")
      "lease.for"           = try(local.root.lease["for"], "")
      "sweep.every"         = try(local.root.sweep.every, "")
      "sweep.budget"        = try(local.root.sweep.budget, "")
      "alerts.sweep_silent" = try(local.root.alerts.sweep_silent, "")
      "alerts.overdue"      = try(local.root.alerts.overdue, "")
      "alerts.pending"      = try(local.root.alerts.pending, "")
    },
    merge([for kind, rule in local.kinds : { for name in local.kind_times : "${kind}.${name}" => try(rule[name], "") }]...)
  )
  parts = { for name, text in local.written : name => try(regex("^([0-9]*\\.?[0-9]+)\\s*([smhd]?)$", tostring(text)), null) }
  times = { for name, part in local.parts : name => part == null ? 0 : tonumber(part[0]) * local.seconds[part[1]] }

  numbers = {
    "slo.goal"             = try(tonumber(local.root.slo.goal), null)
    "alerts.least_ended"   = try(tonumber(local.root.alerts.least_ended), null)
    "alerts.least_rescued" = try(tonumber(local.root.alerts.least_rescued), null)
    "alerts.rescued_share" = try(tonumber(local.root.alerts.rescued_share), null)
    "alerts.lost_leases"   = try(tonumber(local.root.alerts.lost_leases), null)
    "alerts.errors_share"  = try(tonumber(local.root.alerts.errors_share), null)
    "alerts.memory_share"  = try(tonumber(local.root.alerts.memory_share), null)
  }
  goal = coalesce(local.numbers["slo.goal"], 0.99)

  # -- numbers that do not fit together
  no_time   = sort([for name, value in local.times : name if value <= 0])
  no_number = sort([for name, value in local.numbers : name if value == null])
  too_long  = sort([for kind, rule in local.kinds : kind if try(rule.runs_on, "function") == "function" && local.times["${kind}.run_for"] + local.times["platform.margin"] > local.times["platform.timeout"]])
  too_early = sort([for kind in keys(local.kinds) : kind if local.times["${kind}.silent_for"] <= local.times["platform.timeout"]])
  too_late  = sort([for kind in keys(local.kinds) : kind if local.times["${kind}.redispatch_after"] >= local.times["${kind}.pending_for"]])
  longest   = max([for kind in keys(local.kinds) : local.times["${kind}.pending_for"]]...)
  minutes   = local.times["sweep.every"] / 60
  latest    = 3 * local.times["sweep.every"] + 600 # a metric may count log lines up to 10 minutes late
  day       = 25 * 3600                            # the most that Cloud Monitoring allows for window and `for` together, on log-based metrics

  own = [for watch, one in local.root.watches : watch if try(one.own, false)]

  # -- sizes
  bytes    = { "" = 1, B = 1, KB = 1e3, MB = 1e6, GB = 1e9, KIB = 1024, MIB = 1048576, GIB = 1073741824 }
  memories = { for kind, rule in local.kinds : kind => try(regex("^([0-9]+)\\s*([KMG]?I?B?)$", upper(tostring(rule.memory))), ["0", ""]) }
  needs    = { for kind, one in local.memories : kind => tonumber(one[0]) * local.bytes[one[1]] }

  # -- the alerts: a number before a comment such as `# alerts.overdue` is replaced by that of the policy
  values = merge(local.times, local.numbers, { "slo.budget" = 1 - local.goal })
  prefix = replace(var.name, "-", "_")

  rule_list = flatten([for group in yamldecode(var.rules).groups : [for rule in group.rules : merge(rule, { interval = group.interval })]])
  lines = {
    for rule in local.rule_list : rule.alert => [
      for line in split("\n", trimspace(rule.expr)) : try(
        format("%s%.10g%s", local.marked[rule.alert][line][0], local.values[local.marked[rule.alert][line][3]], local.marked[rule.alert][line][2]),
        trimspace(split("#", line)[0]) == "" ? "" : line
      )
    ]
  }
  marked = {
    for rule in local.rule_list : rule.alert => {
      for line in distinct(split("\n", trimspace(rule.expr))) : line => regex("^(.*[^0-9.])([0-9.]+)([^0-9.]*?)\\s*#\\s*([a-z]+\\.[a-z_]+)\\s*$", line)
      if can(regex("#", line))
    }
  }
  unknown_marks = distinct(flatten([for marks in values(local.marked) : [for mark in values(marks) : mark[3] if !contains(keys(local.values), mark[3])]]))

  rules = {
    for rule in local.rule_list : rule.alert => {
      expr     = replace(replace(join("\n", local.lines[rule.alert]), "unstuck_", "${local.prefix}_"), "unstuck-", "${var.name}-")
      for      = rule["for"]
      interval = rule.interval
      severity = rule.labels.severity
      summary  = rule.annotations.summary
    }
  }

  # All functions that an installation may have, and none of another one whose name begins alike, such as unstuck-dev-sweep.
  services = "${var.name}-((beat|cancel|claim|complete|create|fail)-task|task-status|worker|worker-event|sweep|rescue|page)"

  metrics = {
    for name, one in yamldecode(var.metrics).metrics : replace(name, "unstuck_", "${local.prefix}_") => {
      description = one.description
      filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=${try("\"${var.name}-${one.service}\"", "~\"^${local.services}$\"")} AND ${one.filter}"
      labels      = try(one.labels, {})
      value       = try(one.value, null)
    }
  }

  log_match = {
    for one in yamldecode(var.log_match).alerts : one.alert => {
      filter      = replace(trimspace(one.filter), "unstuck-", "${var.name}-")
      severity    = one.labels.severity
      labels_from = one.labels_from
      summary     = one.annotations.summary
      every       = one.every
    }
  }

  # -- what the rules read
  windows = {
    for name, rule in local.rules : name => max([
      for window in regexall("\\[([0-9]+)([smhd]?)\\]", rule.expr) : tonumber(window[0]) * local.seconds[window[1]]
    ]...) + tonumber(trimsuffix(rule.for, "s"))
  }
  too_wide = sort([for name, width in local.windows : name if width > local.day])
  read     = distinct(flatten([for rule in values(local.rules) : [for found in regexall("logging_googleapis_com:user_([a-z0-9_]+?)(?:_bucket|_sum|_count)?\\{", rule.expr) : found[0]]]))
  unknown  = sort(tolist(setsubtract(local.read, keys(local.metrics))))
}
