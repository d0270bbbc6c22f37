variable "name" {
  description = "Name of the installation, and the prefix of all names in it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,24}$", var.name))
    error_message = "name must be 3 to 25 lower-case letters, digits and hyphens: names of the stores are made from it."
  }
}

variable "region" {
  description = "Region of all of it."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16; other ones than of networks that it shall be connected with."
  type        = string
}

variable "kubernetes_version" {
  description = "Version of Kubernetes."
  type        = string
  default     = "1.33"
}

variable "api_cidrs" {
  description = "Addresses that may reach the API server from outside; none: it is private."
  type        = list(string)
  default     = []
}

variable "highly_available" {
  description = "Survive the loss of a zone: a standby of Postgres, a replica of Redis, a NAT gateway in each zone."
  type        = bool
}

variable "protected" {
  description = "Refuse to delete the database and files."
  type        = bool
}

variable "backup_days" {
  description = "Days within which the database can be restored, and deleted files are kept."
  type        = number
}

variable "sizes" {
  description = "Instance types, and disks in GiB."
  type = object({
    node_type      = string
    node_count     = object({ min = number, max = number })
    database_class = string
    database_gib   = object({ initial = number, max = number })
    cache_type     = string
    broker_type    = string
    broker_gib     = number
  })
}

variable "key_environment" {
  description = "Environment in new API keys: `argosy_<environment>_…`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{0,15}$", var.key_environment))
    error_message = "key_environment must be 1 to 16 lower-case letters and digits, such as live."
  }
}

variable "image_prefix" {
  description = "Registry and folder of the images."
  type        = string
}

variable "secret_revision" {
  description = "Raise it to make all generated secrets anew: see \"Rotate secrets\" in docs/operations.md first."
  type        = number
  default     = 1
}

variable "secret_composition" {
  description = "Raise it when a key in `operators_secret_arn` or the address of a store has changed."
  type        = number
  default     = 1
}

variable "operators_secret_arn" {
  description = "A secret of yours, a JSON object whose keys are added to the services' secret: credentials of providers, `admin-key`, `api-key`."
  type        = string
  default     = ""
}
