output "redis_secret_arn" {
  value = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:argosy-redis"
}

output "redis_version_id" {
  value = "1"
}

output "kafka_secret_arn" {
  value = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:AmazonMSK_argosy"
}

output "services_secret_name" {
  value = "argosy-services"
}

output "services_secret_arn" {
  value = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:argosy-services"
}
