variable "name" {
  description = "Name of the role."
  type        = string
}

variable "oidc_provider_arn" {
  description = "Identity provider of the cluster."
  type        = string
}

variable "oidc_issuer" {
  description = "Address of the issuer without https://."
  type        = string

  validation {
    condition     = !startswith(var.oidc_issuer, "https://")
    error_message = "oidc_issuer must not begin with https://: conditions on tokens name it without."
  }
}

variable "namespace" {
  description = "Namespace of the service account."
  type        = string
}

variable "service_account" {
  description = "Name of the service account."
  type        = string

  validation {
    condition     = !strcontains(var.service_account, "*")
    error_message = "service_account must be one account: with a star, every pod of the namespace could assume the role."
  }
}

variable "statements" {
  description = "What the role may do, and with what."
  type        = list(object({ actions = list(string), resources = list(string) }))

  validation {
    condition     = alltrue([for one in var.statements : !contains(one.actions, "*") && !contains(one.resources, "*")])
    error_message = "statements must name actions and resources, and not *."
  }
}
