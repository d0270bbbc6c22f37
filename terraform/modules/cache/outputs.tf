output "address" {
  description = "Host name of the primary."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "port" {
  description = "Port, with TLS."
  value       = 6379
}

output "user" {
  description = "ACL user of the services."
  value       = aws_elasticache_user.services.user_name
}
