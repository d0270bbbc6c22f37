# The one boundary between Terraform and Helm: whatever the chart has to know of the cloud is here, and nothing secret.

locals {
  stores = [for cidr in module.network.data_cidrs : { ipBlock = { cidr = cidr } }]

  values = {
    global = {
      environment = var.key_environment
      image       = { prefix = var.image_prefix }
      secret      = { name = "argosy", revision = "${var.secret_revision}.${var.secret_composition}" }
      externalSecret = {
        enabled   = true
        storeKind = "ClusterSecretStore"
        storeName = "aws"
        remoteKey = module.secrets.services_secret_name
      }
      kafka = {
        bootstrap        = module.kafka.bootstrap
        securityProtocol = "SASL_SSL"
        saslMechanism    = "SCRAM-SHA-512"
        saslUsername     = "argosy"
      }
      networkPolicy = {
        stores = {
          postgres = { ports = [module.database.port], to = local.stores }
          redis    = { ports = [module.cache.port], to = local.stores }
          kafka    = { ports = [9096], to = local.stores }
        }
      }
    }
    retrieval = {
      objectsUrl     = module.object_store.url
      serviceAccount = { annotations = { "eks.amazonaws.com/role-arn" = module.files_identity.role_arn } }
    }
  }
}
