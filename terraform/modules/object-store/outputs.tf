output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "url" {
  description = "Where files are kept, as the chart wants it."
  value       = "s3://${aws_s3_bucket.this.id}/files"
}
