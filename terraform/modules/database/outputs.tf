output "address" {
  description = "Host name."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port."
  value       = 5432
}

output "name" {
  description = "Name of the database."
  value       = aws_db_instance.this.db_name
}

output "admin_secret_arn" {
  description = "Secret with the administrator's user and password; only the preparation of the database needs it."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
