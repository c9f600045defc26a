# The second installation in the project of the first one, with a state of its own (backend prefix) and fewer alerts.
project_id          = "my-project"
name                = "unstuck-dev"
region              = "europe-west1"
slo                 = false
dashboard           = false
alerts_off          = ["TaskFailureBurnSlow", "MemoryHigh"]
notification_emails = ["dev@example.com"]
