# Offline. Terraform cannot mock ephemeral values: run it by `make terraform`, which replaces the module of the secrets.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  image_prefix = "registry.example/argosy"
}

run "builds" {
  assert {
    condition     = yamldecode(output.helm_values).global.kafka.securityProtocol == "SASL_SSL"
    error_message = "the services reach Kafka without TLS or without a user"
  }

  assert {
    condition     = [for store in yamldecode(output.helm_values).global.networkPolicy.stores : length(store.to)] == [3, 3, 3]
    error_message = "network policies do not name the three subnets of the stores"
  }
}
