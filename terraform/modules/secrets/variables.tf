variable "name" {
  description = "Prefix of the secrets' names."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts them; MSK does not accept the account's default key."
  type        = string
}

variable "revision" {
  description = "Raise it to make all generated secrets anew: see \"Rotate secrets\" in docs/operations.md first."
  type        = number
  default     = 1

  validation {
    condition     = var.revision >= 1 && floor(var.revision) == var.revision
    error_message = "revision must be a whole number from 1 on."
  }
}

variable "composition" {
  description = "Raise it when a key in `operators_secret_arn` or the address of a store has changed: the services' secret is composed again, generated secrets stay."
  type        = number
  default     = 1

  validation {
    condition     = var.composition >= 1 && var.composition < 1000 && floor(var.composition) == var.composition
    error_message = "composition must be a whole number from 1 to 999."
  }
}

variable "kafka_user" {
  description = "Name of the services' user of Kafka."
  type        = string
  default     = "argosy"
}

variable "redis_user" {
  description = "Name of the services' ACL user of Redis."
  type        = string
  default     = "argosy"
}

variable "redis_address" {
  description = "Host name of Redis."
  type        = string
}

variable "database_address" {
  description = "Host name of Postgres."
  type        = string
}

variable "database_name" {
  description = "Name of the database."
  type        = string
}

variable "operators_secret_arn" {
  description = "A secret of yours, a JSON object whose keys are added to the services' secret: credentials of providers, `admin-key`, `api-key`. Read when `revision` or `composition` is raised."
  type        = string
  default     = ""
}
