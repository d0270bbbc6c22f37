variable "name" {
  description = "Name of the instance."
  type        = string
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
  description = "Key that encrypts storage, backups and the administrator's password."
  type        = string
}

variable "engine_version" {
  description = "Version of Postgres: the major one, or an exact one."
  type        = string
  default     = "17"

  validation {
    condition     = can(regex("^1[6-9](\\.[0-9]+)?$", var.engine_version))
    error_message = "engine_version must be Postgres 16 or newer, such as 17 or 17.5."
  }
}

variable "instance_class" {
  description = "Size of the instance."
  type        = string

  validation {
    condition     = startswith(var.instance_class, "db.")
    error_message = "instance_class must be a class of RDS, such as db.r7g.large."
  }
}

variable "storage_gib" {
  description = "Storage in GiB: at first, and how far it grows by itself."
  type        = object({ initial = number, max = number })

  validation {
    condition     = var.storage_gib.initial >= 20 && var.storage_gib.max > var.storage_gib.initial
    error_message = "storage_gib.initial must be at least 20, and storage_gib.max above it: a full disk stops all services."
  }
}

variable "multi_az" {
  description = "A standby in a second zone, which takes over by itself."
  type        = bool
  default     = true
}

variable "backup_days" {
  description = "Days within which any second can be restored."
  type        = number
  default     = 14

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "backup_days must be between 1 and 35: 0 would turn off the backups, and the ledger cannot be made again."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the instance, and keep a last snapshot."
  type        = bool
  default     = true
}
