# Each module by itself, offline: what it promises, and what it refuses. Run by `make terraform`.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                     = "argosy-test"
  region                   = "eu-central-1"
  zones                    = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2", "subnet-3"]
  client_security_group_id = "sg-1"
  kms_key_arn              = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
}

run "network_cuts_subnets_that_do_not_overlap" {
  module {
    source = "./modules/network"
  }

  assert {
    condition     = output.data_cidrs == ["10.40.128.0/20", "10.40.144.0/20", "10.40.160.0/20"]
    error_message = "the stores' subnets are other ones"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(aws_route_table.data.route) == 0
    error_message = "a zone has no NAT gateway of its own, or the stores have a route out"
  }
}

run "network_shares_one_nat_gateway_when_asked" {
  module {
    source = "./modules/network"
  }

  variables {
    nat_per_zone = false
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1a"] && length(aws_route_table.private) == 3
    error_message = "there is more than one NAT gateway, or a zone without a route"
  }
}

run "network_refuses_a_block_of_another_size" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    cidr = "10.40.0.0/20"
  }
  expect_failures = [var.cidr]
}

run "network_refuses_two_zones" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    zones = ["eu-central-1a", "eu-central-1b"]
  }
  expect_failures = [var.zones]
}

run "cluster_is_private_and_enforces_network_policies" {
  module {
    source = "./modules/cluster"
  }

  variables {
    node_count = { min = 2, max = 4 }
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access == false
    error_message = "the API server can be reached from the internet"
  }

  assert {
    condition     = jsondecode(aws_eks_addon.this["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "nothing enforces the chart's NetworkPolicies"
  }

  assert {
    condition     = output.oidc_issuer == "oidc.eks.eu-central-1.amazonaws.com/id/AAAA"
    error_message = "the issuer has its scheme still"
  }
}

run "cluster_refuses_the_whole_internet_an_old_version_and_one_node" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  variables {
    api_cidrs          = ["0.0.0.0/0"]
    kubernetes_version = "1.27"
    node_count         = { min = 1, max = 4 }
  }
  expect_failures = [var.api_cidrs, var.kubernetes_version, var.node_count]
}

run "database_is_encrypted_backed_up_and_forces_tls" {
  module {
    source = "./modules/database"
  }

  variables {
    instance_class = "db.r7g.large"
    storage_gib    = { initial = 50, max = 100 }
  }

  assert {
    condition     = aws_db_instance.this.storage_encrypted && !aws_db_instance.this.publicly_accessible && aws_db_instance.this.backup_retention_period == 14
    error_message = "the database is not encrypted, public, or without backups"
  }

  assert {
    condition     = contains([for one in aws_db_parameter_group.this.parameter : one.value if one.name == "rds.force_ssl"], "1")
    error_message = "Postgres accepts connections without TLS"
  }
}

run "database_refuses_no_backups_and_a_disk_that_cannot_grow" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    instance_class = "r7g.large"
    storage_gib    = { initial = 50, max = 50 }
    backup_days    = 0
    engine_version = "15"
  }
  expect_failures = [var.instance_class, var.storage_gib, var.backup_days, var.engine_version]
}

run "cache_has_tls_and_an_acl_user" {
  module {
    source = "./modules/cache"
  }

  variables {
    node_type           = "cache.t4g.micro"
    password_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis"
    password_version_id = "1"
  }

  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_enabled && length(aws_elasticache_replication_group.this.user_group_ids) == 1
    error_message = "Redis is without TLS, or without users"
  }

  assert {
    condition     = startswith(aws_elasticache_user.default.access_string, "off ")
    error_message = "whoever reaches Redis gets in as the user default"
  }
}

run "cache_refuses_half_a_replica" {
  command = plan

  module {
    source = "./modules/cache"
  }

  variables {
    node_type           = "cache.t4g.micro"
    password_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis"
    password_version_id = "1"
    replicas            = 0.5
  }
  expect_failures = [var.replicas]
}

run "kafka_has_three_copies_and_scram_over_tls" {
  module {
    source = "./modules/kafka"
  }

  variables {
    user_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:AmazonMSK_argosy"
  }

  assert {
    condition     = aws_msk_cluster.this.encryption_info[0].encryption_in_transit[0].client_broker == "TLS" && aws_msk_cluster.this.client_authentication[0].sasl[0].scram
    error_message = "Kafka is reached without TLS or without a user"
  }

  assert {
    condition     = strcontains(aws_msk_configuration.this.server_properties, "min.insync.replicas=2")
    error_message = "an acknowledged event may be on one broker alone"
  }
}

run "kafka_refuses_two_zones_and_an_old_version" {
  command = plan

  module {
    source = "./modules/kafka"
  }

  variables {
    subnet_ids      = ["subnet-1", "subnet-2"]
    kafka_version   = "2.8.1"
    user_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:AmazonMSK_argosy"
  }
  expect_failures = [var.subnet_ids, var.kafka_version]
}

run "object_store_is_private" {
  module {
    source = "./modules/object-store"
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.this.restrict_public_buckets && aws_s3_bucket_public_access_block.this.block_public_policy
    error_message = "the bucket can be made public"
  }

  assert {
    condition     = endswith(output.url, "/files")
    error_message = "the role of retrieval covers files/ alone"
  }
}

run "object_store_refuses_a_name_with_a_dot" {
  command = plan

  module {
    source = "./modules/object-store"
  }

  variables {
    name = "argosy.files"
  }
  expect_failures = [var.name]
}

run "identity_refuses_every_account_and_every_right" {
  command = plan

  module {
    source = "./modules/identity"
  }

  variables {
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc"
    oidc_issuer       = "https://oidc"
    namespace         = "argosy"
    service_account   = "argosy-*"
    statements        = [{ actions = ["*"], resources = ["*"] }]
  }
  expect_failures = [var.oidc_issuer, var.service_account, var.statements]
}
