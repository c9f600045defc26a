# A table of your own in a database without a public address, and secrets that stay in Europe.
project_id          = "my-project"
region              = "europe-west1"
network             = { network = "default", subnetwork = "default" }
internal_ingress    = true
secret_locations    = ["europe-west1"]
page_viewers        = ["group:ops@example.com"]
notification_emails = ["oncall@example.com"]
# policy_file       = "../my-policy.yaml" # which names your table
