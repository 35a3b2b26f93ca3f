"""Numbers: thousands separators, signs, decimals, fractions, currencies, percent and units."""

import re
from fractions import Fraction

DIGITS = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|0|[1-9][0-9]{0,39})"
AMOUNT = rf"(?:{DIGITS}(?:\.[0-9]{{1,40}})?|\.[0-9]{{1,40}})(?:[eE][-+]?[0-9]{{1,2}})?"
WORD = r"[^\W\d_]+"
NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s?(?P<currency>[$€£¥]?)\s?(?P<inner>[-+]?)(?P<amount>{AMOUNT})(?:\s?/\s?(?P<below>[1-9][0-9]{{0,39}}))?"
    rf"\s?(?P<unit>%|°?\s?(?:{WORD}(?:[ /*·-]{WORD}){{0,3}}[²³]?)?)"
)
ANYWHERE = re.compile(rf"(?<![\w.,])(?P<sign>[-+]?)[$€£¥]?(?P<amount>{AMOUNT})(?![\w]|[.,][0-9])")
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen"}


def value_of(text: str) -> tuple[Fraction, frozenset[str]] | None:
    """A text that is one number: its value, and the words of its unit. Codes with leading zeros are no numbers."""
    text = text.strip().strip("*").rstrip(".").strip().replace("\u2212", "-").replace("\u00a0", " ")
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    found = NUMBER.fullmatch(text)
    if not found or (found["sign"] and found["inner"]):
        return None
    value = Fraction(found["amount"].replace(",", "")) / int(found["below"] or 1)
    words = re.findall(rf"{WORD}|%", found["unit"].casefold())
    unit = {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words}
    if found["currency"]:
        unit.add(CURRENCIES[found["currency"]])
    return -value if "-" in (found["sign"], found["inner"]) else value, frozenset(unit)


def last_number(text: str) -> tuple[Fraction, frozenset[str]] | None:
    """The last number in a text that is more than one number, without a unit; None when there is none."""
    found = list(ANYWHERE.finditer(text.replace("\u2212", "-")))
    if not found:
        return None
    value = Fraction(found[-1]["amount"].replace(",", ""))
    return -value if found[-1]["sign"] == "-" else value, frozenset()


def same(answer: tuple[Fraction, frozenset[str]], gold: tuple[Fraction, frozenset[str]]) -> bool:
    """Whole numbers must be equal, others to one part in a million. A unit may be left out; two units must share a word."""
    (value, unit), (expected, expected_unit) = answer, gold
    if unit and expected_unit and not unit & expected_unit:
        return False
    if value.denominator == expected.denominator == 1:
        return value == expected
    return abs(value - expected) <= abs(expected) / 1_000_000
