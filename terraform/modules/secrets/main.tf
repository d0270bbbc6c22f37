# What is secret, in Secrets Manager. The values are ephemeral: neither the state nor a plan has them. (The cache module
# has to read the password of its user, so that one is in the state, which is encrypted.)

locals {
  roles    = { for pair in setproduct(["gateway", "orchestrator", "metering", "retrieval"], ["app", "owner"]) : "${pair[0]}_${pair[1]}" => pair }
  internal = ["principal", "signing", "webhooks"]
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each            = toset(concat(["redis", "kafka"], local.internal, keys(local.roles)))
  password_length     = 40
  exclude_punctuation = true # they stand in addresses
}

resource "aws_secretsmanager_secret" "redis" {
  name       = "${var.name}-redis"
  kms_key_id = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "redis" {
  secret_id                = aws_secretsmanager_secret.redis.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this["redis"].random_password
  secret_string_wo_version = var.revision
}

# MSK wants this prefix.
resource "aws_secretsmanager_secret" "kafka" {
  name       = "AmazonMSK_${var.name}"
  kms_key_id = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "kafka" {
  secret_id = aws_secretsmanager_secret.kafka.id
  secret_string_wo = jsonencode({
    username = var.kafka_user
    password = ephemeral.aws_secretsmanager_random_password.this["kafka"].random_password
  })
  secret_string_wo_version = var.revision
}

resource "aws_secretsmanager_secret_policy" "kafka" {
  secret_arn = aws_secretsmanager_secret.kafka.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "kafka.amazonaws.com" }
      Action    = "secretsmanager:GetSecretValue"
      Resource  = aws_secretsmanager_secret.kafka.arn
    }]
  })
}

# The rest of what is generated: written once, and read whenever the services' secret is composed anew.
resource "aws_secretsmanager_secret" "generated" {
  name       = "${var.name}-generated"
  kms_key_id = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "generated" {
  secret_id = aws_secretsmanager_secret.generated.id
  secret_string_wo = jsonencode({
    for name in concat(local.internal, keys(local.roles)) : name => ephemeral.aws_secretsmanager_random_password.this[name].random_password
  })
  secret_string_wo_version = var.revision
}

resource "aws_secretsmanager_secret" "services" {
  name       = "${var.name}-services"
  kms_key_id = var.kms_key_arn
}

# The passwords as they are stored: those of this run are other ones, unless it wrote them.
ephemeral "aws_secretsmanager_secret_version" "redis" {
  secret_id  = aws_secretsmanager_secret.redis.id
  version_id = aws_secretsmanager_secret_version.redis.version_id
}

ephemeral "aws_secretsmanager_secret_version" "kafka" {
  secret_id  = aws_secretsmanager_secret.kafka.id
  version_id = aws_secretsmanager_secret_version.kafka.version_id
}

ephemeral "aws_secretsmanager_secret_version" "generated" {
  secret_id  = aws_secretsmanager_secret.generated.id
  version_id = aws_secretsmanager_secret_version.generated.version_id
}

# What operators bring: keys of providers, and the first keys of the gateway.
ephemeral "aws_secretsmanager_secret_version" "operators" {
  count     = var.operators_secret_arn == "" ? 0 : 1
  secret_id = var.operators_secret_arn
}

locals {
  generated = jsondecode(ephemeral.aws_secretsmanager_secret_version.generated.secret_string)
}

resource "aws_secretsmanager_secret_version" "services" {
  secret_id = aws_secretsmanager_secret.services.id
  secret_string_wo = jsonencode(merge(
    # docs/operations.md lists the keys.
    {
      principal-secrets   = local.generated["principal"]
      signing-keys        = "r${var.revision}:${local.generated["signing"]}"
      webhook-secret-keys = local.generated["webhooks"]
      redis-url           = "rediss://${var.redis_user}:${ephemeral.aws_secretsmanager_secret_version.redis.secret_string}@${var.redis_address}:6379/0"
      kafka-password      = jsondecode(ephemeral.aws_secretsmanager_secret_version.kafka.secret_string).password
    },
    {
      for role, pair in local.roles : (pair[1] == "app" ? "${pair[0]}-dsn" : "${pair[0]}-owner-dsn") =>
      "postgresql://${role}:${local.generated[role]}@${var.database_address}:5432/${var.database_name}?sslmode=require"
    },
    var.operators_secret_arn == "" ? {} : jsondecode(ephemeral.aws_secretsmanager_secret_version.operators[0].secret_string),
  ))
  secret_string_wo_version = 1000 * var.revision + var.composition
}
