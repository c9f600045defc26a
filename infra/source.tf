# What is deployed: main.py, requirements.txt, and of functions/ without ops/ these kinds of files. All else is left out,
# such as a .env, a key or a dump; data of a handler goes into functions/handlers/data/.
# .gcloudignore lists the same files for `gcloud functions deploy`; a test compares the two.
locals {
  file_name = "[^/.][^/]*"
  kinds = [
    "(${local.file_name}/)*${local.file_name}\\.py",
    "(${local.file_name}/)*${local.file_name}\\.schema\\.json",
    "policy\\.yaml",
    "sql/(${local.file_name}/)*${local.file_name}\\.sql",
    "page/templates/${local.file_name}\\.html",
    "page/static/${local.file_name}\\.(js|css|svg|LICENSE)",
    "handlers/data/(${local.file_name}/)*${local.file_name}",
  ]
  root = "${path.module}/.."
  code = sort([
    for path in fileset("${local.root}/functions", "**") : "functions/${path}"
    if !startswith(path, "ops/") && can(regex("^(${join("|", local.kinds)})$", path)) && !strcontains("/${path}", "/__pycache__/")
  ])
  files   = concat(["main.py", "requirements.txt"], local.code)
  written = { for path in local.files : path => path == "functions/policy.yaml" ? local.policy_file : "${local.root}/${path}" }
  binary  = [for path, from in local.written : path if !can(file(from))]
}

data "archive_file" "functions" {
  type        = "zip"
  output_path = "${path.module}/build/functions.zip"

  dynamic "source" {
    for_each = local.written
    content {
      filename = source.key
      content  = try(file(source.value), "")
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.binary) == 0
      error_message = "Only text can be deployed this way, but ${join(", ", local.binary)} is not UTF-8. Keep it in a bucket, or move it out of functions/."
    }
  }
}

resource "google_storage_bucket" "source" {
  count                       = var.source_bucket == null ? 1 : 0
  name                        = "${var.project_id}-${var.name}-source"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true
  versioning {
    enabled = false
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
  depends_on = [time_sleep.apis]
}

locals {
  bucket = var.source_bucket == null ? google_storage_bucket.source[0].name : var.source_bucket
}

# Its name contains a hash of the content, so a function is built again only when the code has changed.
resource "google_storage_bucket_object" "source" {
  name       = "functions-${data.archive_file.functions.output_sha256}.zip"
  bucket     = local.bucket
  source     = data.archive_file.functions.output_path
  depends_on = [time_sleep.apis]
}

resource "google_storage_bucket_object" "runbook" {
  for_each     = var.runbooks_url == null ? local.runbooks : {}
  name         = "runbooks/${each.key}.md"
  bucket       = local.bucket
  content      = each.value
  content_type = "text/markdown; charset=utf-8"
  depends_on   = [time_sleep.apis]
}
