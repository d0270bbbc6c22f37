# This folder is a root module only for tests/modules.tftest.hcl; what is applied is in environments/.
terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}
