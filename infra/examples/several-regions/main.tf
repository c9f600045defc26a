# Two regions in one project, from one state: each an installation with a database of its own, and alerts, charts and mails of its
# own name. Run terraform in this folder, or copy it beside infra/ and change `source`.
terraform {
  required_version = ">= 1.11"
}

variable "project_id" {
  description = "The Google Cloud project."
  type        = string
  default     = "my-project"
}

variable "notification_emails" {
  description = "Who is told, of both."
  type        = list(string)
  default     = ["oncall@example.com"]
}

module "europe" {
  source              = "../.."
  project_id          = var.project_id
  name                = "unstuck-eu"
  region              = "europe-west1"
  secret_locations    = ["europe-west1"]
  notification_emails = var.notification_emails
}

module "america" {
  source              = "../.."
  project_id          = var.project_id
  name                = "unstuck-us"
  region              = "us-central1"
  secret_locations    = ["us-central1"]
  notification_emails = var.notification_emails
}

output "secrets" {
  description = "The secrets that need a value: the URL of each region's database."
  value       = { europe = module.europe.secrets, america = module.america.secrets }
}

output "functions" {
  description = "The URLs of the functions, by region."
  value       = { europe = module.europe.functions, america = module.america.functions }
}
