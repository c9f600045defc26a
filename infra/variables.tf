variable "project_id" {
  description = "The Google Cloud project. The only required variable."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be the id of a project such as my-project-123, not its name or number. See `gcloud projects list`."
  }
}

variable "region" {
  description = "The region of everything. Choose one near the database, because each step of a task is a round trip."
  type        = string
  default     = "us-central1"
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region must be a region such as europe-west1, not a zone. See `gcloud functions regions list`."
  }
}

variable "name" {
  description = "The prefix of all names. Use another one for a second installation in the same project."
  type        = string
  default     = "unstuck"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 20 of a-z, 0-9 and -, from a letter on: names of functions and service accounts are made of it."
  }
}

variable "labels" {
  description = "Labels that are added to everything that can have labels, such as {team = \"media\"}."
  type        = map(string)
  default     = {}
}

variable "policy_file" {
  description = "The policy that is deployed and that all times and thresholds are read from. Default: functions/policy.yaml."
  type        = string
  default     = null
  validation {
    condition     = var.policy_file == null || can(file(var.policy_file))
    error_message = "policy_file cannot be read. Give a path from the folder infra/, such as ../my-policy.yaml."
  }
}

variable "runtime" {
  description = "The Python of the functions."
  type        = string
  default     = "python313"
  validation {
    condition     = contains(["python311", "python312", "python313"], var.runtime)
    error_message = "runtime must be python311, python312 or python313: the code needs 3.11 and is tested up to 3.13."
  }
}

# -- the database

variable "database" {
  description = "How the code reaches the database: postgres (the secret DATABASE_URL) or supabase (supabase_url and the secret SUPABASE_KEY)."
  type        = string
  default     = "postgres"
  validation {
    condition     = contains(["postgres", "supabase"], var.database)
    error_message = "database must be postgres or supabase."
  }
  validation {
    condition     = var.database != "supabase" || var.supabase_url != null
    error_message = "database = \"supabase\" needs supabase_url. Set it to the project's URL, such as https://abcdefgh.supabase.co."
  }
}

variable "supabase_url" {
  description = "The URL of the Supabase project: for database = \"supabase\", and for the tokens of its users."
  type        = string
  default     = null
  validation {
    condition     = var.supabase_url == null || can(regex("^https://[^/]+$", var.supabase_url))
    error_message = "supabase_url must be like https://abcdefgh.supabase.co, without a path or a / at its end."
  }
}

variable "secret_values" {
  description = "Values of secrets by name, such as {DATABASE_URL = \"postgresql://...\"}: written, but in no plan and no state. Needs secret_versions. Default: none; add them with gcloud (README.md)."
  type        = map(string)
  default     = {}
  ephemeral   = true
}

variable "secret_locations" {
  description = "Regions that keep the secrets, where the organization does not let Google choose (gcp.resourceLocations), such as [\"europe-west1\"]. Default: Google chooses."
  type        = list(string)
  default     = []
}

variable "secret_versions" {
  description = "The secrets that Terraform writes from secret_values, such as {DATABASE_URL = 1}. Raise the number to write a new value."
  type        = map(number)
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.secret_versions) : can(regex("^(DATABASE_URL|SUPABASE_KEY|SUPABASE_JWT_SECRET|NOTIFY_(URL|SECRET)(_[A-Z0-9_]+)?|CALLBACK_SECRET|SWEEP_PING_URL)$", name))])
    error_message = "secret_versions must be of DATABASE_URL, SUPABASE_KEY, SUPABASE_JWT_SECRET, NOTIFY_URL, NOTIFY_SECRET (also with _ and an address, such as NOTIFY_URL_ONCALL), CALLBACK_SECRET and SWEEP_PING_URL."
  }
}

# -- the functions

variable "sizes" {
  description = "Memory, cpu, concurrency and instances of the functions: those that clients call (api), the workers, the sweep, the rescue."
  type = object({
    api = optional(object({
      memory      = optional(string, "512Mi")
      cpu         = optional(string, "1")
      concurrency = optional(number, 40)
      min         = optional(number, 0)
      max         = optional(number, 10) # new projects and small regions allow no more CPU
    }), {})
    worker = optional(object({
      memory      = optional(string, "1Gi")
      cpu         = optional(string, "1")
      concurrency = optional(number, 1)
      min         = optional(number, 0)
      max         = optional(number, 10) # new projects and small regions allow no more CPU
    }), {})
    sweep = optional(object({
      memory      = optional(string, "512Mi")
      cpu         = optional(string, "1")
      concurrency = optional(number, 1)
      min         = optional(number, 0)
      max         = optional(number, 2)
    }), {})
    rescue = optional(object({
      memory      = optional(string, "512Mi")
      cpu         = optional(string, "1")
      concurrency = optional(number, 10)
      min         = optional(number, 0)
      max         = optional(number, 2)
    }), {})
  })
  default = {}
  validation {
    condition     = alltrue([for one in values(var.sizes) : can(regex("^[0-9]+(M|Mi|G|Gi)$", one.memory))])
    error_message = "A memory in sizes must be like 512Mi, 1Gi or 2G."
  }
  validation {
    condition     = alltrue([for one in values(var.sizes) : one.concurrency == 1 || try(tonumber(one.cpu) >= 1, false)])
    error_message = "A concurrency above 1 needs a whole cpu. Set cpu = \"1\" or concurrency = 1 in sizes."
  }
  validation {
    condition     = alltrue([for one in values(var.sizes) : one.min >= 0 && one.max >= 1 && one.min <= one.max && one.concurrency >= 1 && one.concurrency <= 1000])
    error_message = "In sizes, min must be 0 to max, max at least 1, and concurrency 1 to 1000."
  }
}

variable "internal_ingress" {
  description = "Whether sweep and worker refuse requests from outside Google Cloud, before they check the token."
  type        = bool
  default     = false
}

variable "vpc_connector" {
  description = "A Serverless VPC Access connector, for a database without a public address."
  type        = string
  default     = null
}

variable "network" {
  description = "A subnetwork through which the functions reach private addresses directly, without a connector, such as {network = \"default\", subnetwork = \"default\"}."
  type        = object({ network = string, subnetwork = string, tags = optional(list(string), []) })
  default     = null
  validation {
    condition     = var.network == null || var.vpc_connector == null
    error_message = "network and vpc_connector are two ways to the same place. Set one of them."
  }
}

variable "paused" {
  description = "Whether the schedule of the sweep is paused, for work on the database. Nothing that is overdue is ended then, and SweepSilent tells it."
  type        = bool
  default     = false
}

variable "users" {
  description = "How clients prove who they are: none (only IAM checks: api_invokers), supabase (a user's JWT, checked with the keys that the project publishes; needs supabase_url), or secret (the same, checked with the legacy secret SUPABASE_JWT_SECRET)."
  type        = string
  default     = "none"
  validation {
    condition     = contains(["none", "supabase", "secret"], var.users)
    error_message = "users must be none, supabase or secret."
  }
  validation {
    condition     = var.users != "supabase" || var.supabase_url != null
    error_message = "users = \"supabase\" needs supabase_url: the keys are published there. Set it."
  }
}

variable "jwt_audience" {
  description = "The audience (aud) of users' tokens."
  type        = string
  default     = "authenticated"
  validation {
    condition     = can(regex("^\\S+$", var.jwt_audience))
    error_message = "jwt_audience must not be empty: it is what users' tokens are checked for. Leave it out for Supabase's own."
  }
}

variable "api_invokers" {
  description = "Who may call create_task, task_status and cancel_task: members such as serviceAccount:web@my-project.iam.gserviceaccount.com, or allUsers if the functions check users' tokens (users). Default: only the invoker account of Unstuck."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.api_invokers : one == "allUsers" || can(regex("^(user|serviceAccount|group|principal):.+$|^principalSet:.+[^*]$", one))])
    error_message = "api_invokers must be members of IAM: allUsers, user:EMAIL, serviceAccount:EMAIL or group:EMAIL. A whole domain (gmail.com is one) or a whole pool is not taken: name a group."
  }
  validation {
    condition     = !contains(var.api_invokers, "allUsers") || var.users != "none"
    error_message = "With allUsers in api_invokers anybody could create tasks. Set users to supabase or secret, so that the code asks for a user's token."
  }
}

variable "cors_origins" {
  description = "The origins whose pages may create, query and cancel tasks from a browser, such as [\"https://app.example.com\"]."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.cors_origins : can(regex("^https?://[^/,*]+$", one))])
    error_message = "cors_origins must be origins such as https://app.example.com: no path, no / at the end, no *."
  }
  validation {
    condition     = length(var.cors_origins) == 0 || contains(var.api_invokers, "allUsers")
    error_message = "A browser asks first without a token (CORS preflight), which IAM refuses. Set api_invokers = [\"allUsers\"], or leave cors_origins out."
  }
}

variable "page_viewers" {
  description = "Who may open the operators' page: members of IAM such as group:ops@example.com. Default: nobody, and it is not deployed."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.page_viewers : can(regex("^(user|serviceAccount|group|principal):.+$|^principalSet:.+[^*]$", one))])
    error_message = "page_viewers must be members of IAM such as group:ops@example.com. allUsers, a whole domain (gmail.com is one) and a whole pool are not taken: the page shows every task. Name a group."
  }
}

variable "page_write" {
  description = "Whether the operators' page may also retry, requeue, cancel and fail tasks."
  type        = bool
  default     = false
}

variable "page_redact" {
  description = "More keys whose values the operators' page hides, such as [\"iban\"]."
  type        = list(string)
  default     = []
}

variable "gauges" {
  description = "Whether the sweep writes gauges (open tasks, oldest ages, live attempts) and looks up in the logs why workers died."
  type        = bool
  default     = true
}

variable "remote_workers" {
  description = "Who may run tasks outside the functions, with claim_task, beat_task, complete_task and fail_task: members of IAM. Default: nobody, and these functions are not deployed."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.remote_workers : can(regex("^(user|serviceAccount|group|principal):.+$|^principalSet:.+[^*]$", one))])
    error_message = "remote_workers must be members of IAM such as serviceAccount:gpu@my-project.iam.gserviceaccount.com. allUsers and a whole pool are not taken: whoever holds a task writes its result."
  }
}

variable "notify" {
  description = "Whether the sweep tells a webhook how tasks ended. Its URL is the secret NOTIFY_URL. {signed = true} also signs the messages with the secret NOTIFY_SECRET."
  type        = object({ signed = optional(bool, false) })
  default     = null
}

variable "notify_addresses" {
  description = "The other webhooks that the sweep tells, by their names in `addresses` of the policy, such as {oncall = {signed = true}}. The URL of oncall is the secret NOTIFY_URL_ONCALL; signed also signs its messages, with the secret NOTIFY_SECRET_ONCALL."
  type        = map(object({ signed = optional(bool, false) }))
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.notify_addresses) : can(regex("^[a-z_][a-z0-9_]{0,99}$", name)) && !contains(["default", "callback", "ping", "worker"], name)])
    error_message = "notify_addresses must be named by a-z, 0-9 and _, and not default (set notify), callback, ping or worker."
  }
}

variable "callback_hosts" {
  description = "The hosts that a task's callback_url may name, such as [\"api.example.com\", \"*.example.org\"]. What they are told is signed with the secret CALLBACK_SECRET. Default: none."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.callback_hosts : can(regex("^(\\*\\.)?[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+$", one))])
    error_message = "callback_hosts must be names of hosts such as api.example.com or *.example.org: no https://, port or path."
  }
}

variable "sweep_ping" {
  description = "Whether each sweep that ended well asks (GET) for the URL in the secret SWEEP_PING_URL, such as a check of healthchecks.io: that service tells you when the sweep stops."
  type        = bool
  default     = false
}

variable "pools" {
  description = "Worker pools by name, for kinds with `runs_on: pool`, such as {video = {image = \"us-central1-docker.pkg.dev/my-project/unstuck/pool:1\", gpu = \"nvidia-l4\", cpu = \"4\", memory = \"16Gi\"}}. kinds: those that it takes (default: all of them). hours: {start, end}, two cron schedules between which its instances run; outside of them there are none."
  type = map(object({
    image     = string
    kinds     = optional(list(string), [])
    instances = optional(number, 1)
    memory    = optional(string, "1Gi")
    cpu       = optional(string, "1")
    gpu       = optional(string)
    hours     = optional(object({ start = string, end = string, time_zone = optional(string, "Etc/UTC") }))
  }))
  default = {}
  validation {
    condition     = alltrue([for name in keys(var.pools) : can(regex("^[a-z][a-z0-9-]{0,19}$", name))])
    error_message = "A name in pools must be at most 20 of a-z, 0-9 and -, from a letter on."
  }
  validation {
    condition     = alltrue([for name in keys(var.pools) : !can(regex("(^|-)pool-", name))])
    error_message = "A name in pools must have no pool- in it: pools of another installation, such as NAME-pool, are told apart by that."
  }
  validation {
    condition     = alltrue([for one in values(var.pools) : can(regex("^[0-9]+(M|Mi|G|Gi)$", one.memory)) && one.instances >= 1 && one.instances == floor(one.instances)])
    error_message = "In pools, memory must be like 2Gi and instances a whole number of at least 1. To stop a pool take it out."
  }
}

variable "rescue" {
  description = "Whether lines of the platform's log (memory limit, request timeout, a signal, a stopped instance) end what that instance held at once, with the cause, instead of when its lease is over."
  type        = bool
  default     = true
}

variable "pubsub" {
  description = "Whether tasks also come as messages of a Pub/Sub topic, to the function worker_event."
  type        = bool
  default     = false
}

variable "queue" {
  description = "How fast Cloud Tasks pushes, and how often it tries again. The sweep pushes again what Cloud Tasks gave up. name: another name for the queue, for when its usual one, NAME-tasks, is blocked for 7 days after a destroy."
  type = object({
    name                      = optional(string)
    max_dispatches_per_second = optional(number, 50)
    max_attempts              = optional(number, 20)
    min_backoff               = optional(string, "5s")
    max_backoff               = optional(string, "300s")
  })
  default = {}
  validation {
    condition     = var.queue.max_dispatches_per_second > 0 && var.queue.max_dispatches_per_second <= 500
    error_message = "queue.max_dispatches_per_second must be above 0 and at most 500, which is what Cloud Tasks allows."
  }
  validation {
    condition     = var.queue.max_attempts == -1 || (var.queue.max_attempts >= 1 && var.queue.max_attempts <= 1000)
    error_message = "queue.max_attempts must be 1 to 1000, or -1 for no limit."
  }
  validation {
    condition     = can(regex("^[A-Za-z0-9-]{1,100}$", coalesce(var.queue.name, "x")))
    error_message = "queue.name must be 1 to 100 letters, digits and -, such as unstuck-tasks-2."
  }
}

# -- what is there already

variable "accounts" {
  description = "Service accounts of this project that are there already, by part: api, worker, sweep, rescue, invoker, build. Such as {build = \"builder@my-project.iam.gserviceaccount.com\"}. The others are made. All get the roles of their part."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for part, email in var.accounts : contains(["api", "worker", "sweep", "rescue", "invoker", "build"], part) && can(regex("^[^@\\s:]+@[^@\\s:]+$", email))])
    error_message = "accounts must be emails of service accounts by part: api, worker, sweep, rescue, invoker or build."
  }
}

variable "source_bucket" {
  description = "A bucket that is there already, for the archive of the functions and the pages of the alerts. Default: it is made."
  type        = string
  default     = null
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", coalesce(var.source_bucket, "made")))
    error_message = "source_bucket must be the name of a bucket, without gs://."
  }
}

variable "repository" {
  description = "A repository of Artifact Registry that is there already, for the images of the functions: projects/P/locations/L/repositories/R. Default: it is made."
  type        = string
  default     = null
  validation {
    condition     = can(regex("^projects/[^/]+/locations/[^/]+/repositories/[^/]+$", coalesce(var.repository, "projects/p/locations/l/repositories/r")))
    error_message = "repository must be like projects/my-project/locations/europe-west1/repositories/images."
  }
}

variable "kms_key" {
  description = "A key of Cloud KMS in the same region that encrypts functions, images, archive, topics and pools: projects/P/locations/L/keyRings/R/cryptoKeys/K. The agents of these services need roles/cloudkms.cryptoKeyEncrypterDecrypter on it. Secrets stay with Google's key. Default: Google's keys."
  type        = string
  default     = null
  validation {
    condition     = can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", coalesce(var.kms_key, "projects/p/locations/l/keyRings/r/cryptoKeys/k")))
    error_message = "kms_key must be like projects/my-project/locations/europe-west1/keyRings/ours/cryptoKeys/unstuck."
  }
}

# -- who gets the alerts

variable "notification_emails" {
  description = "Who gets the alerts by mail."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.notification_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", one))])
    error_message = "notification_emails must be addresses such as oncall@example.com."
  }
}

variable "slack" {
  description = "A Slack channel that gets the alerts, such as {channel = \"#alerts\"}; needs slack_token. Raise version to write a new token."
  type        = object({ channel = string, version = optional(number, 1) })
  default     = null
  validation {
    condition     = var.slack == null || can(regex("^#.+", var.slack.channel))
    error_message = "slack.channel must begin with #, such as #alerts."
  }
}

variable "slack_token" {
  description = "The token of the Slack app. Kept in no plan and no state."
  type        = string
  default     = null
  ephemeral   = true
}

variable "pagerduty" {
  description = "Whether PagerDuty gets the alerts; needs pagerduty_key. Raise version to write a new key."
  type        = object({ version = optional(number, 1) })
  default     = null
}

variable "pagerduty_key" {
  description = "The integration key of the PagerDuty service. Kept in no plan and no state."
  type        = string
  default     = null
  ephemeral   = true
}

variable "webhook" {
  description = "A URL that gets the alerts by POST with basic authentication; needs webhook_password. Raise version to write a new one."
  type        = object({ url = string, username = string, version = optional(number, 1) })
  default     = null
  validation {
    condition     = var.webhook == null || can(regex("^https://", var.webhook.url))
    error_message = "webhook.url must begin with https://: a password goes along."
  }
}

variable "webhook_password" {
  description = "The password of the webhook. Kept in no plan and no state."
  type        = string
  default     = null
  ephemeral   = true
}

variable "probe" {
  description = "Whether Cloud Monitoring asks task_status from outside the project every 5 minutes, and tells when it does not answer (ProbeFailing)."
  type        = bool
  default     = false
}

variable "dead_letters" {
  description = "Whether a line that the function rescue did not take in 20 tries goes to a topic of its own for 7 days, and is told (DeadLetters). Needs rescue."
  type        = bool
  default     = false
  validation {
    condition     = !var.dead_letters || var.rescue
    error_message = "dead_letters are those of the rescue. Set rescue = true, or leave dead_letters out."
  }
}

variable "alerts_topic" {
  description = "Whether alerts are also published to a Pub/Sub topic of their own."
  type        = bool
  default     = false
}

variable "notification_channels" {
  description = "Existing channels that get the alerts too: projects/P/notificationChannels/N."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", one))])
    error_message = "notification_channels must be like projects/my-project/notificationChannels/123. See `gcloud beta monitoring channels list`."
  }
}

variable "slo" {
  description = "Whether the goal is also made as an SLO of Cloud Monitoring, which only shows it: alerts do not need it."
  type        = bool
  default     = true
}

variable "dashboard" {
  description = "Whether the page of charts is made, and linked in each mail."
  type        = bool
  default     = true
}

variable "alerts_off" {
  description = "Names of alerts to switch off, such as [\"MemoryHigh\"]."
  type        = list(string)
  default     = []
}

variable "renotify" {
  description = "How often the notification of an open CRITICAL incident is sent again."
  type        = string
  default     = "3600s"
  validation {
    condition     = can(regex("^[0-9]+s$", var.renotify)) && try(tonumber(trimsuffix(var.renotify, "s")) >= 1800 && tonumber(trimsuffix(var.renotify, "s")) <= 172800, false)
    error_message = "renotify must be 1800s to 172800s: 30 minutes to 48 hours, as Cloud Monitoring allows."
  }
}

variable "runbooks_url" {
  description = "Where the pages of infra/runbooks/ can be read, such as https://github.com/me/my-app/blob/main/infra/runbooks. Default: a copy of them in the source bucket."
  type        = string
  default     = null
  validation {
    condition     = var.runbooks_url == null || can(regex("^https://.+[^/]$", var.runbooks_url))
    error_message = "runbooks_url must begin with https:// and not end with /: /SweepSilent.md comes behind it."
  }
}
