"""The whole fleet on one machine, with embedded Postgres, Redis, Kafka and a language model."""
