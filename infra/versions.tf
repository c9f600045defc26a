terraform {
  required_version = ">= 1.11" # write-only arguments keep secrets out of the state

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.40, < 8"
    }
    google-beta = { # only for google_project_service_identity, which makes service agents
      source  = "hashicorp/google-beta"
      version = ">= 7.40, < 8"
    }
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.7"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.13"
    }
  }
}
