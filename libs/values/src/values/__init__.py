"""What every service means by money, token usage and limits. Pure, but for `values.protos`."""
