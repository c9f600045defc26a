# Tasks in PostgreSQL, called by services with an account of Google.
project_id          = "my-project"
region              = "europe-west1"
notification_emails = ["oncall@example.com"]
