output "helm_values" {
  description = "The values that Helm installs the chart with, as YAML."
  value       = yamlencode(local.values)
}

output "cluster_name" {
  description = "Name of the cluster."
  value       = module.cluster.name
}

output "services_secret_name" {
  description = "Secret with all keys of the services."
  value       = module.secrets.services_secret_name
}

output "database_address" {
  description = "Host name of Postgres."
  value       = module.database.address
}

output "database_admin_secret_arn" {
  description = "Secret with the administrator of Postgres."
  value       = module.database.admin_secret_arn
}

output "external_secrets_role_arn" {
  description = "Role of the External Secrets operator, for its service account."
  value       = module.secrets_identity.role_arn
}
