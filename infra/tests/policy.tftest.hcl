# modules/policy alone, without a provider or a cloud. Numbers that fit together are put into the alerts; others are refused, with the next step.

variables {
  policy    = file("../functions/policy.yaml")
  rules     = file("./alerts/rules.yaml")
  metrics   = file("./alerts/metrics.yaml")
  log_match = file("./alerts/log_match.yaml")
}

run "the_policy_of_the_bundle_fits" {
  command = plan
  module {
    source = "./modules/policy"
  }
  assert {
    condition     = output.times["platform.timeout"] == 600 && output.times["sweep.budget"] == 45 && output.times["tasks.image.run_for"] == 300
    error_message = "times are seconds, and a kind says its own"
  }
  assert {
    condition     = output.times["tasks.image.silent_for"] == 900
    error_message = "a kind has from \"*\" what it does not say"
  }
  assert {
    condition     = output.cron == "* * * * *" && output.memory == 400000000 && output.goal == 0.99
    error_message = "cron, memory, goal"
  }
  assert {
    condition     = length(regexall("#", join("", [for rule in output.rules : rule.expr]))) == 0
    error_message = "the comments are for people and the policy's numbers, not for the query"
  }
}

run "the_numbers_of_the_policy_are_in_the_rules_and_the_name_is_in_all" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    name   = "two-of-them"
    policy = replace(replace(replace(file("../functions/policy.yaml"), "goal: 0.99 ", "goal: 0.995 "), "sweep_silent: 15m", "sweep_silent: 0.5h"), "errors_share: 0.05 ", "errors_share: 0.25 ")
  }
  assert {
    condition     = strcontains(output.rules["TaskFailureBurnFast"].expr, "> 14.4 * 0.005\n")
    error_message = "the budget is 1 - goal"
  }
  assert {
    condition     = output.rules["SweepSilent"].expr == "absent_over_time(logging_googleapis_com:user_two_of_them_sweep_finished{monitored_resource=\"cloud_run_revision\"}[1800s])"
    error_message = "a number in the middle of a line"
  }
  assert {
    condition     = strcontains(output.rules["FunctionErrors"].expr, "> 0.25\n") && strcontains(output.rules["FunctionErrors"].expr, "service_name=~\"two-of-them-(")
    error_message = "share and services"
  }
  assert {
    condition     = strcontains(output.metrics["two_of_them_task_finished"].filter, "service_name=~\"^two-of-them-(") && strcontains(output.log_match["SchedulerPaused"].filter, "jobs/two-of-them-sweep")
    error_message = "filters"
  }
}

run "hours_and_minutes_become_schedules" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(replace(file("../functions/policy.yaml"), "every: 60s", "every: 2h"), "sweep_silent: 15m", "sweep_silent: 7h")
  }
  assert {
    condition     = output.cron == "0 */2 * * *"
    error_message = output.cron
  }
}

# -- refusals

run "work_on_a_pool_may_take_hours_and_its_memory_is_the_pools" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "      selection:\n", "      film:\n        run_for: 3h\n        runs_on: pool\n        memory: 6GB\n      selection:\n")
  }
  assert {
    condition     = output.pool_kinds["film"][0] == 6000000000 && output.memory == 400000000
    error_message = "memory of the pool's kinds, and of the others"
  }
}

run "a_lease_shorter_than_three_beats" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "  for: 30s", "  for: 29s")
  }
  expect_failures = [output.times]
}

run "work_that_ends_after_the_platform_gave_up" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "run_for: 570s", "run_for: 586s")
  }
  expect_failures = [output.times]
}

run "a_sweep_that_ends_work_which_still_runs" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "silent_for: 15m", "silent_for: 10m")
  }
  expect_failures = [output.times]
}

run "pushes_that_are_never_sent_again" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "redispatch_after: 2m", "redispatch_after: 15m")
  }
  expect_failures = [output.times]
}

run "sweeps_that_pile_up" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "budget: 45s", "budget: 60s")
  }
  expect_failures = [output.times]
}

run "a_margin_of_all_the_time_there_is" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "margin: 15s", "margin: 600s")
  }
  expect_failures = [output.times]
}

run "a_worker_that_cloud_tasks_does_not_wait_for" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(replace(file("../functions/policy.yaml"), "timeout: 600s", "timeout: 31m"), "silent_for: 15m", "silent_for: 1h")
  }
  expect_failures = [output.times]
}

run "a_time_that_is_none" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "overdue: 15m", "overdue: soon")
  }
  expect_failures = [output.times]
}

run "a_schedule_that_is_not_even" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "every: 60s", "every: 90s")
  }
  expect_failures = [output.cron]
}

run "a_policy_without_numbers_for_the_alerts" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(replace(file("../functions/policy.yaml"), "/(?m)^slo:\\n.*\\n/", ""), "lost_leases: 3", "found_leases: 3")
  }
  expect_failures = [output.goal, output.rules]
}

run "a_goal_that_no_failure_rate_can_miss" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "goal: 0.99 ", "goal: 0.9 ")
  }
  expect_failures = [output.rules]
}

run "a_silence_that_is_only_lateness" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "sweep_silent: 15m", "sweep_silent: 12m")
  }
  expect_failures = [output.rules]
}

run "a_wait_that_is_over_before_it_is_told" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "pending: 5m", "pending: 15m")
  }
  expect_failures = [output.rules]
}

run "shares_above_all" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "memory_share: 0.9 ", "memory_share: 90 ")
  }
  expect_failures = [output.rules]
}

run "a_window_wider_than_25_hours" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    rules = replace(file("./alerts/rules.yaml"), "[24h]", "[3d]")
  }
  expect_failures = [output.rules]
}

run "a_metric_that_does_not_exist" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    rules = replace(file("./alerts/rules.yaml"), "user_unstuck_sweep_finished", "user_unstuck_sweep_ended")
  }
  expect_failures = [output.rules]
}

run "a_number_that_the_policy_does_not_have" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    rules = replace(file("./alerts/rules.yaml"), "# alerts.overdue", "# alerts.overdo")
  }
  expect_failures = [output.rules]
}

run "a_memory_that_is_none" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    policy = replace(file("../functions/policy.yaml"), "memory: 400MB", "memory: much")
  }
  expect_failures = [output.memory]
}
