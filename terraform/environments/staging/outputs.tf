output "helm_values" {
  description = "The values that Helm installs the chart with, as YAML."
  value       = module.platform.helm_values
}

output "cluster_name" {
  description = "Name of the cluster."
  value       = module.platform.cluster_name
}

output "services_secret_name" {
  description = "Secret with all keys of the services."
  value       = module.platform.services_secret_name
}

output "database_address" {
  description = "Host name of Postgres."
  value       = module.platform.database_address
}

output "database_admin_secret_arn" {
  description = "Secret with the administrator of Postgres."
  value       = module.platform.database_admin_secret_arn
}

output "external_secrets_role_arn" {
  description = "Role of the External Secrets operator, for its service account."
  value       = module.platform.external_secrets_role_arn
}
