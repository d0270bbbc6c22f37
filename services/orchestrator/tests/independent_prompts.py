"""Pairs of prompts by an author who did not write the guard; see `prompt_pairs/`.

`near_misses_first` and `paraphrases` were written before the guard was read, `near_misses_by_reading` to break it, and
`near_misses_second` after it was mended, of other shapes. A mend is of a kind of sentence; none names a pair.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent / "prompt_pairs"


def _read(name: str) -> tuple[tuple[str, str, str], ...]:
    lines = (_FOLDER / f"{name}.txt").read_text().splitlines()
    pairs = [line.replace("\\n", "\n").split(" | ") for line in lines]
    return tuple((kind, one, other) for kind, one, other in pairs)


INDEPENDENT_NEAR_MISSES = {name: _read(f"near_misses_{name}") for name in ("first", "by_reading", "second")}
"""What differs, and both prompts; by the set they stand in."""
INDEPENDENT_PARAPHRASES = tuple((one, other) for _, one, other in _read("paraphrases"))
