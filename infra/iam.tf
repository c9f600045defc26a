# One account for each part, each with what that part does and no more.
locals {
  accounts = {
    api     = "the functions that clients call: read and write the database, push tasks"
    worker  = "the workers: read and write the database, push tasks again"
    sweep   = "the sweep: the same; writes gauges, reads the logs of workers that died"
    invoker = "calls the workers, the sweep and the rescue, for Cloud Tasks, Cloud Scheduler and Pub/Sub"
    rescue  = "ends what workers held that the platform's log says are gone"
    build   = "builds the functions"
  }
  pushers = concat(["api", "worker", "sweep"], var.rescue ? ["rescue"] : [])

  project_roles = merge(
    { "build roles/logging.logWriter" = { account = "build", role = "roles/logging.logWriter" } },
    { for role in ["roles/monitoring.metricWriter", "roles/logging.viewer"] : "sweep ${role}" => { account = "sweep", role = role } },
    var.pubsub ? { "invoker roles/eventarc.eventReceiver" = { account = "invoker", role = "roles/eventarc.eventReceiver" } } : {},
  )
}

# Google gives its agent this role too, but minutes after the API is enabled: the first trigger would come before.
resource "google_project_iam_member" "eventarc_agent" {
  count   = var.pubsub ? 1 : 0
  project = var.project_id
  role    = "roles/eventarc.serviceAgent"
  member  = google_project_service_identity.agent["eventarc"].member
}

locals {
  needed = { for name, what in local.accounts : name => what if name != "rescue" || var.rescue }
  # Those made here, and those that somebody else made and named in `accounts`.
  account = merge(
    { for name, one in google_service_account.this : name => { email = one.email, member = one.member, name = one.name } },
    { for name, email in var.accounts : name => { email = email, member = "serviceAccount:${email}", name = "projects/${var.project_id}/serviceAccounts/${email}" } },
  )
  repository = {
    id       = var.repository == null ? google_artifact_registry_repository.functions[0].id : var.repository
    location = var.repository == null ? var.region : split("/", var.repository)[3]
    name     = var.repository == null ? google_artifact_registry_repository.functions[0].name : split("/", var.repository)[5]
    project  = var.repository == null ? var.project_id : split("/", var.repository)[1]
  }
}

resource "google_service_account" "this" {
  for_each     = { for name, what in local.needed : name => what if !contains(keys(var.accounts), name) }
  account_id   = "${var.name}-${each.key}"
  display_name = "Unstuck ${each.key}"
  description  = each.value
  depends_on   = [time_sleep.apis]
}

resource "google_project_iam_member" "this" {
  for_each   = local.project_roles
  project    = var.project_id
  role       = each.value.role
  member     = local.account[each.value.account].member
  depends_on = [time_sleep.apis]
}

# The build runs setup code of libraries. So it reads the sources of these functions alone, of all objects in the project: the
# archive, and the copies that Cloud Functions makes of it in a bucket of its own, in a folder for each function.
resource "google_project_iam_member" "build_reads_sources" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = local.account["build"].member
  condition {
    title = "sources of ${var.name}"
    expression = join(" || ", [
      "resource.name.startsWith(\"projects/_/buckets/${local.bucket}/\")",
      "resource.name.extract(\"projects/_/buckets/gcf-v2-sources-{rest}\").extract(\"/objects/{path}\").startsWith(\"${var.name}-\")",
    ])
  }
  depends_on = [time_sleep.apis]
}

# The images of the functions, and no others: the account that builds them could else replace those of the whole project.
resource "google_artifact_registry_repository" "functions" {
  count         = var.repository == null ? 1 : 0
  repository_id = "${var.name}-functions"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the functions of Unstuck"
  kms_key_name  = var.kms_key
  depends_on    = [time_sleep.apis]
}

resource "google_artifact_registry_repository_iam_member" "build_writes_images" {
  project    = local.repository.project
  location   = local.repository.location
  repository = local.repository.name
  role       = "roles/artifactregistry.writer"
  member     = local.account["build"].member
  depends_on = [time_sleep.apis]
}

# A new role does not work at once, and nothing can be asked whether it does. Without this pause the first build would fail,
# and so would a function that starts with a secret which it may read since a moment.
resource "time_sleep" "iam" {
  create_duration = "60s"
  triggers        = { roles = join(",", sort(concat(keys(local.project_roles), keys(google_secret_manager_secret_iam_member.this)))) }
  depends_on = [
    google_project_iam_member.this, google_project_iam_member.eventarc_agent, google_project_iam_member.build_reads_sources,
    google_artifact_registry_repository_iam_member.build_writes_images,
  ]
}

# Cloud Tasks sends the invoker's token. An account that pushes a task must be allowed to act as the invoker.
resource "google_service_account_iam_member" "pushes_as_invoker" {
  for_each           = toset(local.pushers)
  service_account_id = local.account["invoker"].name
  role               = "roles/iam.serviceAccountUser"
  member             = local.account[each.value].member
  depends_on         = [time_sleep.apis]
}

locals {
  invokers = merge(
    { for entry in local.private : entry => [local.account["invoker"].member] },
    { for entry in local.public : entry => distinct(concat([local.account["invoker"].member], var.probe && entry == "task_status" ? [google_project_service_identity.agent["monitoring"].member] : [], var.api_invokers)) }, # the invoker runs the smoke test
    { for entry in local.remote : entry => var.remote_workers },
    { for entry in local.page : entry => var.page_viewers },
  )
}

# On the Cloud Run service, because cloudfunctions.invoker has no effect on functions of the 2nd generation. It is a binding
# (not a member), so that an account which somebody adds by hand is removed by the next apply.
resource "google_cloud_run_service_iam_binding" "invoker" {
  for_each = local.invokers
  location = var.region
  service  = google_cloudfunctions2_function.this[each.key].name
  role     = "roles/run.invoker"
  members  = each.value

  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.this[each.key].id] # a service that was made again has lost its bindings
  }
}
