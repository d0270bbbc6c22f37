# Staging: the same parts as production, each as small as it can be, without standbys.

module "platform" {
  source               = "../../modules/platform"
  name                 = "argosy-staging"
  region               = var.region
  cidr                 = "10.40.0.0/16"
  api_cidrs            = var.api_cidrs
  highly_available     = false
  protected            = false
  backup_days          = 3
  key_environment      = "test"
  image_prefix         = var.image_prefix
  secret_revision      = var.secret_revision
  secret_composition   = var.secret_composition
  operators_secret_arn = var.operators_secret_arn

  sizes = {
    node_type      = "m7i.large"
    node_count     = { min = 2, max = 4 }
    database_class = "db.t4g.medium"
    database_gib   = { initial = 50, max = 200 }
    cache_type     = "cache.t4g.micro"
    broker_type    = "kafka.t3.small"
    broker_gib     = 20
  }
}
