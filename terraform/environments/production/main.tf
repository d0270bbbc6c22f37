# Production: a standby of each store in another zone, nothing that one command deletes.

module "platform" {
  source               = "../../modules/platform"
  name                 = "argosy-production"
  region               = var.region
  cidr                 = "10.44.0.0/16"
  api_cidrs            = var.api_cidrs
  highly_available     = true
  protected            = true
  backup_days          = 14
  key_environment      = "live"
  image_prefix         = var.image_prefix
  secret_revision      = var.secret_revision
  secret_composition   = var.secret_composition
  operators_secret_arn = var.operators_secret_arn

  sizes = {
    node_type      = "m7i.xlarge"
    node_count     = { min = 3, max = 12 }
    database_class = "db.r7g.large"
    database_gib   = { initial = 200, max = 2000 }
    cache_type     = "cache.m7g.large"
    broker_type    = "kafka.m7g.large"
    broker_gib     = 200
  }
}
