# All that one installation of Argosy needs, and the values that Helm installs it with.

locals {
  zones = slice(data.aws_availability_zones.available.names, 0, 3)
}

data "aws_availability_zones" "available" {
  state = "available"

  # Local zones have no managed stores.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_caller_identity" "this" {}

resource "aws_kms_key" "this" {
  description             = "Everything that ${var.name} stores"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

module "network" {
  source       = "../network"
  name         = var.name
  region       = var.region
  cidr         = var.cidr
  zones        = local.zones
  nat_per_zone = var.highly_available
}

module "cluster" {
  source             = "../cluster"
  name               = var.name
  kubernetes_version = var.kubernetes_version
  subnet_ids         = module.network.private_subnet_ids
  kms_key_arn        = aws_kms_key.this.arn
  api_cidrs          = var.api_cidrs
  node_type          = var.sizes.node_type
  node_count         = var.sizes.node_count
}

module "secrets" {
  source               = "../secrets"
  name                 = var.name
  kms_key_arn          = aws_kms_key.this.arn
  revision             = var.secret_revision
  composition          = var.secret_composition
  redis_address        = module.cache.address
  database_address     = module.database.address
  database_name        = module.database.name
  operators_secret_arn = var.operators_secret_arn
}

module "database" {
  source                   = "../database"
  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  kms_key_arn              = aws_kms_key.this.arn
  instance_class           = var.sizes.database_class
  storage_gib              = var.sizes.database_gib
  multi_az                 = var.highly_available
  backup_days              = var.backup_days
  deletion_protection      = var.protected
}

module "cache" {
  source                   = "../cache"
  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  kms_key_arn              = aws_kms_key.this.arn
  node_type                = var.sizes.cache_type
  replicas                 = var.highly_available ? 1 : 0
  password_secret_arn      = module.secrets.redis_secret_arn
  password_version_id      = module.secrets.redis_version_id
}

module "kafka" {
  source                   = "../kafka"
  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  kms_key_arn              = aws_kms_key.this.arn
  broker_type              = var.sizes.broker_type
  storage_gib              = var.sizes.broker_gib
  user_secret_arn          = module.secrets.kafka_secret_arn
}

module "object_store" {
  source        = "../object-store"
  name          = "${var.name}-files-${data.aws_caller_identity.this.account_id}"
  kms_key_arn   = aws_kms_key.this.arn
  deleted_days  = var.backup_days
  force_destroy = !var.protected
}

module "files_identity" {
  source            = "../identity"
  name              = "${var.name}-retrieval"
  oidc_provider_arn = module.cluster.oidc_provider_arn
  oidc_issuer       = module.cluster.oidc_issuer
  namespace         = "argosy"
  service_account   = "argosy-retrieval"
  statements = [
    { actions = ["s3:ListBucket"], resources = [module.object_store.arn] },
    { actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], resources = ["${module.object_store.arn}/files/*"] },
    { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [aws_kms_key.this.arn] },
  ]
}

module "secrets_identity" {
  source            = "../identity"
  name              = "${var.name}-external-secrets"
  oidc_provider_arn = module.cluster.oidc_provider_arn
  oidc_issuer       = module.cluster.oidc_issuer
  namespace         = "external-secrets"
  service_account   = "external-secrets"
  statements = [
    { actions = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], resources = [module.secrets.services_secret_arn] },
    { actions = ["kms:Decrypt"], resources = [aws_kms_key.this.arn] },
  ]
}
