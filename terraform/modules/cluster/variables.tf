variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Version of Kubernetes; the chart needs 1.29 or newer."
  type        = string
  default     = "1.33"

  validation {
    condition     = can(regex("^1\\.(29|[3-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version must be 1.29 or newer, such as 1.33: the chart refuses older clusters."
  }
}

variable "subnet_ids" {
  description = "Subnets of the nodes."
  type        = list(string)
}

variable "kms_key_arn" {
  description = "Key that encrypts the cluster's Secrets."
  type        = string
}

variable "api_cidrs" {
  description = "Addresses that may reach the API server from outside of the VPC; none: it is private."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0") && alltrue([for cidr in var.api_cidrs : can(cidrhost(cidr, 0))])
    error_message = "api_cidrs must be IPv4 blocks, and not the whole internet (0.0.0.0/0): name the addresses of your office or CI."
  }
}

variable "node_type" {
  description = "Instance type of the nodes, x86-64."
  type        = string
  default     = "m7i.large"
}

variable "node_count" {
  description = "Least and most nodes."
  type        = object({ min = number, max = number })

  validation {
    condition     = var.node_count.min >= 2 && var.node_count.max >= var.node_count.min
    error_message = "node_count.min must be at least 2, so that the loss of a node is survived, and node_count.max not less than it."
  }
}

variable "node_disk_gib" {
  description = "Disk of a node in GiB: images and logs."
  type        = number
  default     = 60
}

variable "log_days" {
  description = "Days that the API server's logs are kept."
  type        = number
  default     = 30
}
