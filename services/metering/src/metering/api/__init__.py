"""How metering is asked, told and reminded: gRPC, usage events, the passing of time."""
