"""`argosy.yaml`: upstreams, prices, routes and flags declared as a file, put in force and written out."""
