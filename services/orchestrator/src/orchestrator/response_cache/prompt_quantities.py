"""Numbers, amounts, units and dates of a prompt in one spelling: `twenty five percent` and `25 %` are equal."""

import re
from collections.abc import Sequence
from typing import Final


def split_words(text: str) -> list[str]:
    return text.split()


_ONES: Final = split_words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS: Final = split_words("twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS: Final = {
    "first": "1st",
    "second": "2nd",
    "third": "3rd",
    **{f"{word}th": f"{number}th" for number, word in enumerate(_ONES) if number in {4, 6, 7, 10, 11}},
    "fifth": "5th",
    "eighth": "8th",
    "ninth": "9th",
    "twelfth": "12th",
}
_SMALL: Final = {word: number for number, word in enumerate(_ONES)} | {
    word: 20 + 10 * number for number, word in enumerate(_TENS)
}
_LARGE: Final = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}

_OTHER_LANGUAGES: Final = {
    "de": {
        word: str(number)
        for number, word in enumerate(
            split_words("null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf")
        )
    },
    "fr": {
        word: str(number)
        for number, word in enumerate(split_words("deux trois quatre cinq six sept huit neuf dix onze douze"), 2)
    },
    "es": {
        word: str(number)
        for number, word in enumerate(split_words("dos tres cuatro cinco seis siete ocho nueve diez once doce"), 2)
    },
}
_UNKNOWN_LANGUAGE: Final = {
    word: number
    for numbers in _OTHER_LANGUAGES.values()
    for word, number in numbers.items()
    if word not in {"once", "null", "dos", "six", "dix"}
}
"""By language: `once` is eleven in Spanish only. Articles are left out; they count as words."""

_UNITS: Final = {
    spelling: name
    for name, spellings in {
        "percent": "% pct percentage",
        "dollar": "$ dollars usd",
        "euro": "€ euros eur",
        "pound_sterling": "£ gbp",
        "yen": "¥ jpy",
        "km": "kilometer kilometers kilometre kilometres kms",
        "mile": "miles mi",
        "meter": "meters metre metres",
        "cm": "centimeter centimeters centimetre centimetres",
        "mm": "millimeter millimeters millimetre millimetres",
        "kg": "kilogram kilograms kilo kilos kgs",
        "mg": "milligram milligrams",
        "gram": "grams",
        "lb": "lbs pound pounds",
        "ml": "milliliter milliliters millilitre millilitres",
        "liter": "liters litre litres",
        "hour": "hours hr hrs",
        "minute": "minutes min mins",
        "sec": "seconds secs",
        "celsius": "°c",
        "fahrenheit": "°f",
        "mb": "megabyte megabytes",
        "gb": "gigabyte gigabytes",
    }.items()
    for spelling in (name, *spellings.split())
}

_MONTHS: Final = split_words("january february march april may june july august september october november december")
_MONTH: Final = "|".join(f"{month}|{month[:3]}" for month in _MONTHS)
_DAY_MONTH: Final = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({_MONTH})\b\.?,? ?(\d{{4}})?")
_MONTH_DAY: Final = re.compile(rf"\b({_MONTH})\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (\d{{4}})\b)?")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}\b)")
_CURRENCY: Final = re.compile(r"([$€£¥])\s?(\d[\d.,]*\d|\d)")
_SUFFIXED: Final = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?(%|°[cf]|[a-z]+)(?![\w])")
_HYPHENED: Final = re.compile(rf"(?<![\w.,:/-])(\d+|{'|'.join([*_ONES, *_TENS])})-(?=[a-z]{{3}})")
_HALF_OF_DAY: Final = re.compile(r"(?<=[\d ])([ap])\.m\.")
_DIGITS: Final = re.compile(r"\d")


def spell_quantities(text: str) -> str:
    """Return case-folded text with its dates and amounts in one spelling."""
    text = _DAY_MONTH.sub(lambda match: _date(match[2], match[1], match[3]), text)
    text = _MONTH_DAY.sub(lambda match: _date(match[1], match[2], match[3]), text)
    text = _THOUSANDS.sub("", _HALF_OF_DAY.sub(r"\1m", text))
    text = _CURRENCY.sub(lambda match: f"{match[2]} {_UNITS[match[1]]}", text)
    return _SUFFIXED.sub(_spell_suffix, _HYPHENED.sub(r"\1 ", text))


def join_numbers(words: Sequence[str], language: str) -> list[str]:
    """Return the words with written-out numbers as digits, and units by one name where they follow a number."""
    joined: list[str] = []
    numbers = _OTHER_LANGUAGES.get(language, {}) if language else _UNKNOWN_LANGUAGE
    place = 0
    while place < len(words):
        number, length = _read_number(words[place:])
        if length:
            joined.append(str(number))
            place += length
            continue
        word = words[place]
        after_number = bool(joined) and is_quantity(joined[-1])
        unit = _UNITS.get(word) if after_number else None
        joined.append(unit or numbers.get(word) or (word if after_number else _ORDINALS.get(word, word)))
        place += 1
    return joined


def is_quantity(word: str) -> bool:
    return _DIGITS.search(word) is not None


def is_unit(word: str) -> bool:
    return word in _UNITS


def _read_number(words: Sequence[str]) -> tuple[int, int]:
    """Read a written-out number; returns its value, and of how many words it is: 0 for none."""
    total, part, length = 0, 0, 0
    digits_first = bool(words) and words[0].isdecimal()
    for place, word in enumerate(words):
        if word in _SMALL and not digits_first:
            small = _SMALL[word]
            # `twenty five` is one number; `five twenty` and `two three` are two.
            if (
                part % 10
                or (part and small == 0)
                or (part % 100 and small >= 10)
                or (part and part % 100 == 0 and part < 100)
            ):
                break
            part += small
        elif place == 0 and digits_first:
            part = int(word)
        elif word in _LARGE and place:
            factor = _LARGE[word]
            if not part:  # `thousand million` is no number of this reading
                break
            if factor == 100:
                part *= factor
            else:
                total, part = total + part * factor, 0
        elif word == "and" and place and part and part % 100 == 0 and words[place + 1 : place + 2] != []:
            if words[place + 1] not in _SMALL:
                break
            continue
        else:
            break
        length = place + 1
    if digits_first and length == 1:
        return 0, 0
    return total + part, length


def _date(month: str, day: str, year: str | None) -> str:
    number = 1 + next(place for place, name in enumerate(_MONTHS) if name.startswith(month[:3]))
    return f"{year or 'date'}-{number:02}-{int(day):02}"


def _spell_suffix(match: re.Match[str]) -> str:
    number, suffix = match[1], match[2]
    if suffix in {"st", "nd", "rd", "th", "am", "pm"}:
        return f"{number}{suffix}"
    unit = {"k": "thousand", "m": "m", "h": "hour"}.get(suffix) or _UNITS.get(suffix, suffix)
    return f"{number} {unit}"
