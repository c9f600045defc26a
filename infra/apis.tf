# Two APIs come first and by hand (README.md): Terraform can neither read the project nor enable an API without them.
locals {
  apis = concat([
    "cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com",
    "artifactregistry.googleapis.com", "cloudbuild.googleapis.com", "cloudfunctions.googleapis.com",
    "cloudscheduler.googleapis.com", "cloudtasks.googleapis.com", "iam.googleapis.com", "iamcredentials.googleapis.com",
    "logging.googleapis.com", "monitoring.googleapis.com", "run.googleapis.com", "secretmanager.googleapis.com",
    "storage.googleapis.com",
    ],
    var.pubsub ? ["eventarc.googleapis.com"] : [],
    var.pubsub || var.alerts_topic || var.rescue ? ["pubsub.googleapis.com"] : [],
  )

  # Google's own accounts that get a role here. In a new project they do not exist until somebody asks for them.
  agents = merge(
    var.pubsub ? { eventarc = "eventarc.googleapis.com" } : {},
    var.alerts_topic || var.probe ? { monitoring = "monitoring.googleapis.com" } : {},
    var.rescue ? { pubsub = "pubsub.googleapis.com" } : {},
  )
}

resource "google_project_service" "this" {
  for_each           = toset(local.apis)
  service            = each.value
  disable_on_destroy = false # something else in the project may use it
}

# A new API refuses calls for a while, and nothing can be asked whether it is ready: only waiting helps.
resource "time_sleep" "apis" {
  create_duration = "60s"
  triggers        = { apis = join(",", sort(local.apis)) }
  depends_on      = [google_project_service.this]
}

resource "google_project_service_identity" "agent" {
  for_each   = local.agents
  provider   = google-beta
  service    = each.value
  depends_on = [time_sleep.apis]
}
