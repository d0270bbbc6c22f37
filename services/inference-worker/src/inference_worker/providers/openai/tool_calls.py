"""The places of streamed tool calls: clients put the pieces of a call together by its index."""

from typing import Any

TOOL_CALLS = b'"tool_calls"'
_NAME = b'"name"'


class ToolCallPlaces:
    """Gives each call of a choice an index of its own.

    Gemini's endpoint and proxies of it send all parallel calls with the index 0, or without one; a client then joins
    their arguments to one text.
    """

    def __init__(self) -> None:
        self._by_id: dict[tuple[int, str, object], int] = {}
        """By choice, id and the index that the upstream writes; None for any index."""
        self._current: dict[tuple[int, object], int] = {}
        """The call to which a piece without an id belongs, by the index that the upstream writes."""
        self._used: dict[int, set[int]] = {}
        self._has_changed = False

    def concern(self, payloads: list[bytes]) -> bool:
        """Tell whether a call begins in one of the chunks, or goes on that has been given another index."""
        return any(TOOL_CALLS in payload and (self._has_changed or _NAME in payload) for payload in payloads)

    def mend(self, event: dict[str, Any]) -> bool:
        """Correct the indexes in a chunk, and tell whether any was changed."""
        changed = False
        for choice in event["choices"]:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            calls = delta.get("tool_calls") if isinstance(delta, dict) else None
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    place = self._place(choice.get("index") or 0, call)
                    changed = changed or call.get("index") != place
                    call["index"] = place
        self._has_changed = self._has_changed or changed
        return changed

    def _place(self, choice: int, call: dict[str, Any]) -> int:
        given, call_id = call.get("index"), call.get("id") or ""
        function = call.get("function")
        names = isinstance(function, dict) and bool(function.get("name"))
        if call_id:
            # Some write the function's name for an id, so that two calls have one: their indexes differ.
            known = self._by_id.get((choice, call_id, given if isinstance(given, int) and names else None))
            if known is not None:
                return known
        current = self._current.get((choice, given))
        if current is not None and not (call_id and names):
            # Also for an upstream that writes another id into each piece: only the first has the name.
            return current
        used = self._used.setdefault(choice, set())
        place = given if isinstance(given, int) and given not in used else max(used, default=-1) + 1
        used.add(place)
        self._current[choice, given] = place
        if call_id:
            self._by_id[choice, call_id, given] = place
            self._by_id.setdefault((choice, call_id, None), place)
        return place
