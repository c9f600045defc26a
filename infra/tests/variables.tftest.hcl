# The whole configuration with bad variables: each is refused. It runs offline, without a call to Google.
# tests/infra tests that a project id alone is enough, and compares what is made with the code.

mock_provider "google" {
  mock_resource "google_cloudfunctions2_function" {
    override_during = plan
    defaults        = { url = "https://us-central1-demo-project.cloudfunctions.net/unstuck-worker" }
  }
}
mock_provider "google-beta" {}
mock_provider "time" {}

variables {
  project_id          = "demo-project"
  notification_emails = ["oncall@example.com"]
}

run "bad_values_are_refused" {
  command = plan
  variables {
    project_id            = "My Project"
    region                = "us-central1-a"
    name                  = "Unstuck_"
    policy_file           = "nowhere.yaml"
    runtime               = "python310"
    supabase_url          = "https://ref.supabase.co/"
    secret_versions       = { PASSWORD = 1 }
    sizes                 = { worker = { memory = "lots" } }
    remote_workers        = ["allUsers"]
    page_viewers          = ["allUsers"]
    queue                 = { max_attempts = 0, name = "my queue" }
    notification_emails   = ["oncall"]
    slack                 = { channel = "alerts" }
    webhook               = { url = "http://example.com", username = "me" }
    notification_channels = ["oncall"]
    renotify              = "60s"
    runbooks_url          = "https://example.com/runbooks/"
    accounts              = { builder = "me@example.com" }
    source_bucket         = "gs://ours"
    repository            = "images"
    kms_key               = "unstuck"
    notify_addresses      = { "On Call" = {} }
    callback_hosts        = ["https://api.example.com/"]
  }
  expect_failures = [
    var.project_id, var.region, var.name, var.policy_file, var.runtime, var.supabase_url, var.secret_versions,
    var.sizes, var.remote_workers, var.page_viewers, var.queue, var.notification_emails, var.slack, var.webhook, var.notification_channels,
    var.renotify, var.runbooks_url, var.accounts, var.source_bucket, var.repository, var.kms_key,
    var.notify_addresses, var.callback_hosts,
  ]
}

run "values_of_another_kind_are_refused" {
  command = plan
  variables {
    database     = "mysql"
    users        = "everybody"
    rescue       = false
    dead_letters = true
    pools        = { "Big One" = { image = "pool:1", instances = 0 } }
  }
  expect_failures = [var.database, var.users, var.dead_letters, var.pools]
}

run "a_pool_that_looks_like_one_of_another_installation_is_refused" {
  command = plan
  variables {
    pools = { dev-pool-film = { image = "pool:1" } }
  }
  expect_failures = [var.pools]
}

run "values_that_do_not_go_together_are_refused" {
  command = plan
  variables {
    database         = "supabase"
    users            = "supabase"
    jwt_audience     = " "
    sizes            = { api = { cpu = "0.333" }, sweep = { min = 3 } }
    queue            = { max_dispatches_per_second = 1000 }
    notify_addresses = { default = {} }
    callback_hosts   = ["localhost"]
  }
  expect_failures = [var.database, var.users, var.jwt_audience, var.sizes, var.queue, var.notify_addresses, var.callback_hosts]
}

run "the_world_is_let_in_only_where_tokens_are_checked" {
  command = plan
  variables {
    api_invokers = ["allUsers"]
  }
  expect_failures = [var.api_invokers]
}

run "a_browser_without_a_way_in_is_refused_and_two_ways_into_a_network_too" {
  command = plan
  variables {
    cors_origins  = ["https://app.example.com"]
    network       = { network = "default", subnetwork = "default" }
    vpc_connector = "c"
  }
  expect_failures = [var.cors_origins, var.network]
}

run "an_origin_that_is_none_is_refused" {
  command = plan
  variables {
    users        = "secret"
    api_invokers = ["allUsers"]
    cors_origins = ["*"]
  }
  expect_failures = [var.cors_origins]
}

run "a_worker_without_the_memory_for_its_tasks_is_refused_and_an_alert_or_address_that_does_not_exist_warns" {
  command = plan
  variables {
    sizes            = { worker = { memory = "1Gi", concurrency = 4 } }
    alerts_off       = ["MemoryLow"]
    notify_addresses = { oncall = {} }
  }
  expect_failures = [google_cloudfunctions2_function.this, check.alerts_off, check.notify_addresses]
}

run "a_trigger_of_pubsub_that_would_be_cut_off_is_refused" {
  command = plan
  variables {
    pubsub = true
  }
  expect_failures = [google_cloudfunctions2_function.this]
}
