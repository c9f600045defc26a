variable "name" {
  description = "The prefix of all names."
  type        = string
  default     = "unstuck"
}

variable "policy" {
  description = "The text of policy.yaml."
  type        = string
}

variable "rules" {
  description = "The text of alerts/rules.yaml."
  type        = string
}

variable "metrics" {
  description = "The text of alerts/metrics.yaml."
  type        = string
}

variable "log_match" {
  description = "The text of alerts/log_match.yaml."
  type        = string
}
