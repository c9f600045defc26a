# Worker pools: containers that pull the tasks of kinds with `runs_on: pool` (functions/entry/pool.py). No request stands behind
# them, so that no timeout of the platform ends their work. Each costs as long as it runs, at work or not.
locals {
  pool_kinds  = { for kind, bytes in module.policy.pool_kinds : kind => max(bytes...) }
  pool_takes  = { for name, pool in var.pools : name => length(pool.kinds) > 0 ? pool.kinds : keys(local.pool_kinds) }
  pool_hours  = { for name, pool in var.pools : name => pool.hours if pool.hours != null }
  pool_counts = merge([for name, hours in local.pool_hours : { "${name} starts" = { pool = name, cron = hours.start, count = var.pools[name].instances }, "${name} ends" = { pool = name, cron = hours.end, count = 0 } }]...)
}

# The schedule below changes the count too: Terraform writes it when the pool is made, or made again for another count.
resource "terraform_data" "pool_instances" {
  for_each = var.pools
  input    = each.value.instances
}

resource "google_cloud_run_v2_worker_pool" "this" {
  for_each            = var.pools
  name                = "${var.name}-pool-${each.key}"
  location            = var.region
  description         = "Unstuck: ${join(", ", local.pool_takes[each.key])}"
  deletion_protection = false # tasks are in the database: a pool holds nothing

  scaling {
    manual_instance_count = each.value.instances
  }

  template {
    encryption_key                = var.kms_key
    labels                        = var.labels
    service_account               = local.account["worker"].email
    gpu_zonal_redundancy_disabled = each.value.gpu == null ? null : true

    containers {
      image   = each.value.image
      command = ["python", "-m", "functions.entry.pool"]
      args    = each.value.kinds

      resources {
        limits = merge({ memory = each.value.memory, cpu = each.value.cpu }, each.value.gpu == null ? {} : { "nvidia.com/gpu" = "1" })
      }

      # Its lines count as those of the worker: the same metrics, alerts and links.
      dynamic "env" {
        for_each = merge(local.environment["worker"], { LOG_TRANSPORT = "api", LOG_SERVICE = local.function_names["worker"] })
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = { for name, accounts in local.secrets : name => accounts if contains(accounts, "worker") }
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.this[env.key].secret_id
              version = local.versions[env.key]
            }
          }
        }
      }
    }

    dynamic "node_selector" {
      for_each = each.value.gpu == null ? [] : [each.value.gpu]
      content {
        accelerator = node_selector.value
      }
    }

    dynamic "vpc_access" {
      for_each = var.vpc_connector == null && var.network == null ? [] : [true]
      content {
        connector = var.vpc_connector
        egress    = "PRIVATE_RANGES_ONLY"

        dynamic "network_interfaces" {
          for_each = var.network == null ? [] : [var.network]
          content {
            network    = network_interfaces.value.network
            subnetwork = network_interfaces.value.subnetwork
            tags       = network_interfaces.value.tags
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes       = [scaling[0].manual_instance_count]
    replace_triggered_by = [terraform_data.pool_instances[each.key]]

    precondition {
      condition     = length(local.pool_takes[each.key]) > 0 && length(setsubtract(local.pool_takes[each.key], keys(local.pool_kinds))) == 0
      error_message = "The pool ${each.key} is for kinds that do not run on a pool: ${join(", ", setsubtract(each.value.kinds, keys(local.pool_kinds)))}. Set `runs_on: pool` in their rules (policy.yaml), or take them out of pools."
    }
    precondition {
      condition     = tonumber(regex("^[0-9]+", each.value.memory)) * local.units[regex("[A-Za-z]+$", each.value.memory)] >= max(concat([0], [for kind in local.pool_takes[each.key] : lookup(local.pool_kinds, kind, 0)])...) + 200e6
      error_message = "The pool ${each.key} has less memory than a task of its kinds may take (rules.memory of the policy, and 200 MB for the worker itself). Raise its memory, or lower rules.memory."
    }
  }

  depends_on = [time_sleep.iam]
}

resource "google_project_iam_member" "pool_log" {
  count   = length(var.pools) > 0 ? 1 : 0
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = local.account["worker"].member
}

# -- a pool that works at some hours only

resource "google_service_account" "scaler" {
  count        = length(local.pool_hours) > 0 ? 1 : 0
  account_id   = "${var.name}-scaler"
  display_name = "Unstuck scaler"
  description  = "starts and ends the instances of pools, for Cloud Scheduler"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_run_v2_worker_pool_iam_member" "scaler" {
  for_each = local.pool_hours
  location = var.region
  name     = google_cloud_run_v2_worker_pool.this[each.key].name
  role     = "roles/run.developer"
  member   = google_service_account.scaler[0].member
}

resource "google_service_account_iam_member" "scaler_as_worker" {
  count              = length(local.pool_hours) > 0 ? 1 : 0
  service_account_id = local.account["worker"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.scaler[0].member
}

resource "google_cloud_scheduler_job" "pool" {
  for_each         = local.pool_counts
  name             = "${var.name}-pool-${replace(each.key, " ", "-")}"
  region           = var.region
  description      = "Sets the instances of the pool ${each.value.pool} to ${each.value.count}"
  schedule         = each.value.cron
  time_zone        = local.pool_hours[each.value.pool].time_zone
  attempt_deadline = "60s"

  retry_config {
    retry_count = 5
  }

  http_target {
    http_method = "PATCH"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_worker_pool.this[each.value.pool].id}?updateMask=scaling.manualInstanceCount"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ scaling = { manualInstanceCount = each.value.count } }))
    oauth_token {
      service_account_email = google_service_account.scaler[0].email
    }
  }

  depends_on = [google_cloud_run_v2_worker_pool_iam_member.scaler, google_service_account_iam_member.scaler_as_worker]
}

check "pools" {
  assert {
    condition     = length(setsubtract(keys(local.pool_kinds), flatten(values(local.pool_takes)))) == 0
    error_message = "No pool here takes ${join(", ", setsubtract(keys(local.pool_kinds), flatten(values(local.pool_takes))))}. Add one to pools, unless their workers run elsewhere."
  }
}
