"""Many calls on one long-lived gRPC stream per peer; the rules of the wire are in `argosy/exchange/v1/exchange.proto`.

A gRPC message costs about 50 µs at both ends together, whatever it carries. Frames that gather while one message is
being written travel as the next one, so at load a call pays a fraction of that.
"""
