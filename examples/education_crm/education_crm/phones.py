"""Phone numbers as people type them, brought to the one form in which they can be compared.

Only ASCII digits count: a pattern's digit class would accept Devanagari ones too.
"""

import re

FORMATTING = re.compile(r"[\s\-()\u200e\u200f\u202a-\u202e]")
PLAUSIBLE = re.compile(r"\+?[0-9]{10,15}")
MOBILE = re.compile(r"[6-9][0-9]{9}")
FOREIGN = re.compile(r"\+[1-9][0-9]{9,14}")
COUNTRY_DIGITS = 12
TRUNK_DIGITS = 11


def normalise(raw: str) -> str | None:
    """The number in E.164 form, or None when it is neither an Indian mobile nor an international number.

    Indian mobiles may be written with ``+91``, ``0091``, ``91``, a trunk ``0`` or nothing before their
    ten digits. Any other number must name its country with ``+`` or ``00``.
    """
    number = FORMATTING.sub("", raw)

    if number.startswith("00"):
        number = "+" + number[2:]

    if not PLAUSIBLE.fullmatch(number):
        return None

    if number.startswith("+91"):
        return _indian(number[3:])

    if number.startswith("+"):
        return number if FOREIGN.fullmatch(number) else None

    if len(number) == COUNTRY_DIGITS and number.startswith("91"):
        return _indian(number[2:])

    return _indian(number)


def _indian(national: str) -> str | None:
    mobile = national.removeprefix("0") if len(national) == TRUNK_DIGITS else national
    return f"+91{mobile}" if MOBILE.fullmatch(mobile) else None
