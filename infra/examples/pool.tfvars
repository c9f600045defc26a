# Kinds that take hours, on a GPU in the daytime only.
project_id          = "my-project"
region              = "europe-west1"
notification_emails = ["oncall@example.com"]
# policy_file       = "../my-policy.yaml" # in which rules say `runs_on: pool`
pools = {
  film = {
    image  = "europe-west1-docker.pkg.dev/my-project/unstuck/pool:1"
    cpu    = "4"
    memory = "16Gi"
    gpu    = "nvidia-l4"
    hours  = { start = "0 8 * * 1-5", end = "0 20 * * 1-5", time_zone = "Europe/Berlin" }
  }
}
