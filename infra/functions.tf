# One Cloud Run function for each entry point of main.py, all from one source.
locals {
  public  = ["create_task", "task_status", "cancel_task"]
  remote  = length(var.remote_workers) > 0 ? ["claim_task", "beat_task", "complete_task", "fail_task"] : []
  page    = length(var.page_viewers) > 0 ? ["page"] : []
  private = concat(["worker", "sweep"], var.rescue ? ["rescue"] : [], var.pubsub ? ["worker_event"] : [])
  entries = concat(local.public, local.remote, local.page, local.private)

  # An entry point has the account, size and timeout of its group.
  group = merge({ for entry in concat(local.public, local.remote, local.page) : entry => "api" }, { worker = "worker", worker_event = "worker", sweep = "sweep", rescue = "rescue" })
  # Names in kebab-case: a function then has the same name as its Cloud Run service, by which its logs are found.
  function_names = { for entry in local.entries : entry => "${var.name}-${replace(entry, "_", "-")}" }
  timeouts       = { api = 60, worker = floor(local.times["platform.timeout"]), sweep = ceil(local.times["sweep.budget"]) + 60, rescue = 60 }

  # The worker pushes tasks too (to itself), so taking this URL from its resource would be a cycle. The URL on
  # cloudfunctions.net is known before the function exists; the check below compares it with the real one.
  worker_url = "https://${var.region}-${var.project_id}.cloudfunctions.net/${local.function_names["worker"]}"

  environment = {
    for group in ["api", "worker", "sweep", "rescue"] : group => merge(
      {
        GOOGLE_CLOUD_PROJECT = var.project_id
        WORKER_URL           = local.worker_url
        TASKS_QUEUE          = google_cloud_tasks_queue.this.id
        TASKS_INVOKER        = local.account["invoker"].email
        THREADS              = tostring(max(4, var.sizes[group].concurrency)) # of gunicorn: else 4 for each CPU, and the other requests that the platform sends wait
        LOG_EXECUTION_ID     = "true"                                         # the platform adds it; without this line each plan would want to remove it
      },
      var.database == "supabase" || (group == "api" && var.users != "none" && var.supabase_url != null) ? { SUPABASE_URL = var.supabase_url } : {},
      group == "api" ? (var.users == "none" ? { USERS = "none" } : { JWT_AUDIENCE = var.jwt_audience }) : {},
      group == "api" && length(var.cors_origins) > 0 ? { CORS_ORIGINS = join(",", var.cors_origins) } : {},
      contains(["api", "sweep"], group) && length(var.callback_hosts) > 0 ? { CALLBACK_HOSTS = join(",", var.callback_hosts) } : {},
      group == "sweep" && var.gauges ? { METRICS = "on" } : {},
    )
  }
}

locals {
  page_environment = merge(
    var.page_write ? { PAGE_WRITE = "on" } : {},
    length(var.page_redact) > 0 ? { PAGE_REDACT = join(",", var.page_redact) } : {},
  )
}

resource "google_cloudfunctions2_function" "this" { # "Secret ... was not found"? Add its value first: README.md, "A secret is added"
  for_each     = toset(local.entries)
  name         = local.function_names[each.value]
  location     = var.region
  kms_key_name = var.kms_key
  description  = "Unstuck: ${each.value} of main.py"

  build_config {
    runtime           = var.runtime
    entry_point       = each.value
    service_account   = local.account["build"].name
    docker_repository = local.repository.id
    source {
      storage_source {
        bucket = local.bucket
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    service_account_email            = local.account[local.group[each.value]].email
    timeout_seconds                  = local.timeouts[local.group[each.value]]
    available_memory                 = var.sizes[local.group[each.value]].memory
    available_cpu                    = var.sizes[local.group[each.value]].cpu
    max_instance_request_concurrency = var.sizes[local.group[each.value]].concurrency
    min_instance_count               = var.sizes[local.group[each.value]].min
    max_instance_count               = var.sizes[local.group[each.value]].max
    ingress_settings                 = var.internal_ingress && local.group[each.value] != "api" ? "ALLOW_INTERNAL_ONLY" : "ALLOW_ALL"
    vpc_connector                    = var.vpc_connector
    direct_vpc_egress                = var.network == null ? null : "VPC_EGRESS_PRIVATE_RANGES_ONLY"
    all_traffic_on_latest_revision   = true
    environment_variables            = merge(local.environment[local.group[each.value]], each.value == "page" ? local.page_environment : {})

    dynamic "direct_vpc_network_interface" {
      for_each = var.network == null ? [] : [var.network]
      content {
        network    = direct_vpc_network_interface.value.network
        subnetwork = direct_vpc_network_interface.value.subnetwork
        tags       = direct_vpc_network_interface.value.tags
      }
    }

    dynamic "secret_environment_variables" {
      for_each = { for name, accounts in local.secrets : name => accounts if contains(accounts, local.group[each.value]) }
      content {
        key        = secret_environment_variables.key
        project_id = var.project_id
        secret     = google_secret_manager_secret.this[secret_environment_variables.key].secret_id
        version    = local.versions[secret_environment_variables.key]
      }
    }
  }

  dynamic "event_trigger" {
    for_each = each.value == "worker_event" ? [google_pubsub_topic.tasks[0].id] : []
    content {
      event_type            = "google.cloud.pubsub.topic.v1.messagePublished"
      trigger_region        = var.region
      pubsub_topic          = event_trigger.value
      service_account_email = local.account["invoker"].email
      retry_policy          = "RETRY_POLICY_RETRY" # the default drops an event at the first error
    }
  }

  lifecycle {
    precondition {
      condition     = local.memory_of_worker >= local.memory_needed
      error_message = "A worker has ${floor(local.memory_of_worker / 1e6)} MB, but ${var.sizes.worker.concurrency} task(s) at a time may need ${floor(local.memory_needed / 1e6)} MB (rules.memory of the policy, and 200 MB for the function itself): the platform would kill it without a word. Raise sizes.worker.memory, or lower rules.memory."
    }
    precondition {
      condition     = !var.pubsub || local.timeouts.worker <= 540
      error_message = "A function that Pub/Sub triggers may run for 540 s, but platform.timeout of the policy is ${local.timeouts.worker} s. Lower it, or set pubsub = false."
    }
  }

  depends_on = [time_sleep.iam]
}

locals {
  units            = { M = 1e6, Mi = 1048576, G = 1e9, Gi = 1073741824 }
  memory_parts     = regex("^([0-9]+)([A-Za-z]+)$", var.sizes.worker.memory)
  memory_of_worker = tonumber(local.memory_parts[0]) * local.units[local.memory_parts[1]]
  memory_needed    = var.sizes.worker.concurrency * module.policy.memory + 200e6
}

check "worker_url" {
  assert {
    condition     = google_cloudfunctions2_function.this["worker"].url == local.worker_url
    error_message = "The worker's URL is not the one that tasks are pushed to: ${local.worker_url}."
  }
}
