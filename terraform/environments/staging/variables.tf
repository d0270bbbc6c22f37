variable "region" {
  description = "Region of all of it."
  type        = string
  default     = "eu-central-1"
}

variable "image_prefix" {
  description = "Registry and folder of the images."
  type        = string
}

variable "api_cidrs" {
  description = "Addresses that may reach the API server from outside; none: it is private, and Helm has to run inside."
  type        = list(string)
  default     = []
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
