variable "name" {
  description = "Name of the VPC, and the prefix of what is in it."
  type        = string
}

variable "region" {
  description = "Region of the endpoint of the object store."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr must be an IPv4 block of the size /16, such as 10.40.0.0/16: it is cut into twelve subnets."
  }
}

variable "zones" {
  description = "Availability zones; the stores need three."
  type        = list(string)

  validation {
    condition     = length(distinct(var.zones)) == 3
    error_message = "zones must name three different availability zones: Kafka keeps three copies, one in each."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone, rather than one that all share: it costs more and survives the loss of a zone."
  type        = bool
  default     = true
}
