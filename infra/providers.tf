provider "google" {
  project        = var.project_id
  region         = var.region
  default_labels = merge({ app = var.name }, var.labels)
}

provider "google-beta" {
  project = var.project_id
  region  = var.region
}
