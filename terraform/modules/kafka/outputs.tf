output "bootstrap" {
  description = "Brokers for SASL_SSL, `host:port`, separated by commas."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram
}

output "arn" {
  description = "ARN of the cluster."
  value       = aws_msk_cluster.this.arn
  # Clients get in only once their user is known to the cluster.
  depends_on = [aws_msk_scram_secret_association.this]
}
