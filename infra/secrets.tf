# Secrets without their values. Add these with gcloud (README.md), or with the variable secret_values, which is in no plan and no
# state.
locals {
  secrets = merge(
    { (var.database == "supabase" ? "SUPABASE_KEY" : "DATABASE_URL") = local.pushers },
    var.users == "secret" ? { SUPABASE_JWT_SECRET = ["api"] } : {},
    var.notify == null ? {} : { NOTIFY_URL = ["sweep"] },
    try(var.notify.signed, false) ? { NOTIFY_SECRET = ["sweep"] } : {},
    { for name in keys(var.notify_addresses) : "NOTIFY_URL_${upper(name)}" => ["sweep"] },
    { for name, one in var.notify_addresses : "NOTIFY_SECRET_${upper(name)}" => ["sweep"] if one.signed },
    length(var.callback_hosts) > 0 ? { CALLBACK_SECRET = ["api", "sweep"] } : {},
    var.sweep_ping ? { SWEEP_PING_URL = ["sweep"] } : {},
  )
  secret_ids = { for name in keys(local.secrets) : name => "${var.name}-${lower(replace(name, "_", "-"))}" }
}

resource "google_secret_manager_secret" "this" {
  for_each  = local.secrets
  secret_id = local.secret_ids[each.key]
  replication {
    dynamic "auto" {
      for_each = length(var.secret_locations) == 0 ? [true] : []
      content {}
    }
    dynamic "user_managed" {
      for_each = length(var.secret_locations) == 0 ? [] : [true]
      content {
        dynamic "replicas" {
          for_each = var.secret_locations
          content {
            location = replicas.value
          }
        }
      }
    }
  }
  depends_on = [time_sleep.apis]
}

resource "google_secret_manager_secret_version" "this" {
  for_each               = { for name, number in var.secret_versions : name => number if contains(keys(local.secrets), name) }
  secret                 = google_secret_manager_secret.this[each.key].id
  secret_data_wo         = var.secret_values[each.key]
  secret_data_wo_version = each.value
}

# The newest version of each secret that people fill. A secret without one stops the apply here, before any function that
# needs it is touched; the comment on the next line is in the error. The value itself is not fetched.
data "google_secret_manager_secret_version" "newest" { # Not found? Run `gcloud secrets versions add`, then apply again: README.md, "A secret is added"
  for_each          = { for name, secret in google_secret_manager_secret.this : name => secret.id if !contains(keys(var.secret_versions), name) }
  secret            = each.value
  fetch_secret_data = false
}

locals {
  versions = merge(
    { for name, one in data.google_secret_manager_secret_version.newest : name => one.version },
    { for name, one in google_secret_manager_secret_version.this : name => one.version },
  )
}

resource "google_secret_manager_secret_iam_member" "this" {
  for_each   = { for pair in flatten([for name, accounts in local.secrets : [for account in accounts : { name = name, account = account }]]) : "${pair.name} ${pair.account}" => pair }
  secret_id  = google_secret_manager_secret.this[each.value.name].id
  role       = "roles/secretmanager.secretAccessor"
  member     = local.account[each.value.account].member
  depends_on = [time_sleep.apis]
}

locals {
  policy_addresses = setsubtract(keys(try(yamldecode(file(local.policy_file)).addresses, {})), ["default"])
  without_policy   = setsubtract(keys(var.notify_addresses), local.policy_addresses)
  without_url      = setsubtract(local.policy_addresses, keys(var.notify_addresses))
}

check "notify_addresses" {
  assert {
    condition     = length(local.without_policy) == 0
    error_message = "notify_addresses names what `addresses` of the policy does not: ${join(", ", local.without_policy)}. Nothing is ever sent there."
  }
  assert {
    condition     = length(local.without_url) == 0
    error_message = "`addresses` of the policy has names that notify_addresses has not: ${join(", ", local.without_url)}. Their messages wait until they have a URL."
  }
}
