"""Money: prices, budgets, reservations, ledger, usage."""
