variable "name" {
  description = "Name of the replication group."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,29}$", var.name))
    error_message = "name must be at most 30 lower-case letters, digits and hyphens: ElastiCache allows 40, and users get a suffix."
  }
}

variable "vpc_id" {
  description = "VPC of the security group."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the stores."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Security group of the clients."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts what is stored."
  type        = string
}

variable "user" {
  description = "Name of the ACL user of the services."
  type        = string
  default     = "argosy"
}

variable "password_secret_arn" {
  description = "Secret whose text is the user's password."
  type        = string
}

variable "password_version_id" {
  description = "Version of that secret; a new one changes the user's password."
  type        = string
}

variable "engine_version" {
  description = "Version of Redis."
  type        = string
  default     = "7.1"
}

variable "node_type" {
  description = "Size of a node."
  type        = string

  validation {
    condition     = startswith(var.node_type, "cache.")
    error_message = "node_type must be a type of ElastiCache, such as cache.t4g.small."
  }
}

variable "replicas" {
  description = "Replicas beside the primary; with at least one, a replica takes over by itself."
  type        = number
  default     = 1

  validation {
    condition     = var.replicas >= 0 && var.replicas <= 5 && floor(var.replicas) == var.replicas
    error_message = "replicas must be a whole number from 0 to 5."
  }
}
