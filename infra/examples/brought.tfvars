# Accounts, a bucket, a repository and a key that the platform team made, and a probe from outside.
project_id          = "my-project"
region              = "europe-west1"
accounts            = { api = "clients@my-project.iam.gserviceaccount.com", build = "builder@my-project.iam.gserviceaccount.com" }
source_bucket       = "my-project-archives"
repository          = "projects/my-project/locations/europe-west1/repositories/images"
kms_key             = "projects/my-keys/locations/europe-west1/keyRings/apps/cryptoKeys/unstuck"
labels              = { team = "media" }
probe               = true
dead_letters        = true
notification_emails = ["oncall@example.com"]
