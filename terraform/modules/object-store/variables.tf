variable "name" {
  description = "Name of the bucket, unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 63 lower-case letters, digits and hyphens, without a dot: TLS certificates of S3 do not fit names with dots."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the files."
  type        = string
}

variable "deleted_days" {
  description = "Days until a deleted file is gone for good; at least the days of database backups, or a restored database names files that are not there."
  type        = number
  default     = 14

  validation {
    condition     = var.deleted_days >= 1
    error_message = "deleted_days must be at least 1."
  }
}

variable "force_destroy" {
  description = "Delete the bucket though there are files in it."
  type        = bool
  default     = false
}
