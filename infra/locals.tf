# The policy, read once; modules/policy refuses numbers that do not fit together.
module "policy" {
  source    = "./modules/policy"
  name      = var.name
  policy    = file(local.policy_file)
  rules     = file("${path.module}/alerts/rules.yaml")
  metrics   = file("${path.module}/alerts/metrics.yaml")
  log_match = file("${path.module}/alerts/log_match.yaml")
}

locals {
  policy_file = coalesce(var.policy_file, "${path.module}/../functions/policy.yaml")
  times       = module.policy.times
}
