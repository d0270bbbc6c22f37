# Stands in for modules/secrets in tests.
