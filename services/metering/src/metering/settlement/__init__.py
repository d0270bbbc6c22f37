"""The rules of money: what may be held, what is paid, who bears the rest. No transport, no storage."""
