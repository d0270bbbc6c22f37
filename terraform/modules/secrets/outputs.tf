output "redis_secret_arn" {
  description = "Secret with the password of the user of Redis."
  value       = aws_secretsmanager_secret.redis.arn
}

output "redis_version_id" {
  description = "Its version."
  value       = aws_secretsmanager_secret_version.redis.version_id
}

output "kafka_secret_arn" {
  description = "Secret with the user of Kafka; known once it has a value."
  value       = aws_secretsmanager_secret_version.kafka.arn
  depends_on  = [aws_secretsmanager_secret_policy.kafka]
}

output "services_secret_name" {
  description = "Secret with all keys that the chart's Secret has."
  value       = aws_secretsmanager_secret.services.name
}

output "services_secret_arn" {
  description = "Its ARN, for the role of the External Secrets operator."
  value       = aws_secretsmanager_secret.services.arn
}
