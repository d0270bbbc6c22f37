"""How many calls may be made beside the first ones."""


class RetryBudget:
    """A bucket that each request fills by a part of a call, and each retry empties by one.

    Each replica holds its own requests to the ratio, and so all replicas together do.
    """

    __slots__ = ("_max_tokens", "_ratio", "_tokens")

    def __init__(self, ratio: float = 0.1, reserve: float = 5.0, max_tokens: float = 100.0) -> None:
        """`ratio` is the part of extra calls; `reserve` of them may be made before it counts, for few requests."""
        self._ratio = ratio
        self._max_tokens = max_tokens
        self._tokens = reserve

    def deposit(self) -> None:
        """Count a request."""
        if self._tokens < self._max_tokens:
            self._tokens += self._ratio

    def withdraw(self) -> bool:
        """Take one extra call; return whether it may be made."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def refund(self) -> None:
        """Give back an extra call that was not made."""
        self._tokens += 1.0
