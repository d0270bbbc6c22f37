"""How replicas tell each other of circuits; Redis in production, memory in tests."""

from typing import Protocol


class CircuitExchange(Protocol):
    """All methods raise `Unavailable` when the others cannot be reached."""

    async def publish(self, message: bytes) -> None:
        """Tell all replicas that listen now, this one included."""

    async def claim(self, name: str, seconds: float) -> bool:
        """Take a name for some time; return False when another replica has it."""
        ...

    async def release(self, name: str) -> None:
        """Give back a name that this replica took."""
