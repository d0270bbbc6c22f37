variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the security group."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the stores, one in each of three zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) == 3
    error_message = "subnet_ids must be three, each in another zone: topics have three copies."
  }
}

variable "client_security_group_id" {
  description = "Security group of the clients."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts what is stored."
  type        = string
}

variable "user_secret_arn" {
  description = "Secret with `username` and `password`; MSK wants its name to begin with AmazonMSK_ and a key of your own."
  type        = string
}

variable "kafka_version" {
  description = "Version of Kafka, as MSK names it."
  type        = string
  default     = "3.9.x"

  validation {
    condition     = can(regex("^(3\\.[6-9]|4\\.[0-9]+)\\.", var.kafka_version))
    error_message = "kafka_version must be 3.6 or newer, such as 3.9.x."
  }
}

variable "broker_type" {
  description = "Instance type of the brokers."
  type        = string
  default     = "kafka.m7g.large"

  validation {
    condition     = startswith(var.broker_type, "kafka.")
    error_message = "broker_type must be a type of MSK, such as kafka.m7g.large."
  }
}

variable "brokers_per_zone" {
  description = "Brokers in each of the three zones."
  type        = number
  default     = 1
}

variable "storage_gib" {
  description = "Storage of a broker in GiB."
  type        = number
  default     = 100
}
