"""How many calls run at once, and what the drain does with those that outlast it."""
