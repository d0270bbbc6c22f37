"""Feature flags by OpenFeature's semantics: switches of features, models, upstreams and tools, and your own flags."""
