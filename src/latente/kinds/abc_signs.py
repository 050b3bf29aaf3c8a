"""What single signs and fields of ABC mean."""

import re

WHOLE = 2**12 * 3**4 * 5 * 7  # ticks a whole note: short lengths and tuplets of up to 10 divide it

_MODES = {
    "": 0,
    "maj": 0,
    "ion": 0,
    "mix": -1,
    "dor": -2,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "phr": -4,
    "lyd": 1,
    "loc": -5,
}
_FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ALTER = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}


def step(time: int, grid: int) -> int:
    """The nearest step."""
    return (time * 8 * grid + WHOLE) // (2 * WHOLE)


def times_of(number: str, slashes: str, divisor: str) -> tuple[int, int]:
    """3/2, /2, //: a length as a multiple of the unit."""
    if not slashes:
        return int(number + divisor or 1), 1
    below = int(divisor) if divisor else 2 ** min(len(slashes), 8)
    return int(number or 1), max(below, 1)


def midi(letter: str, octaves: str, alter: int) -> int:
    octave = (72 if letter.islower() else 60) + 12 * (octaves.count("'") - octaves.count(","))
    return min(max(octave + _SEMITONES[letter.upper()] + alter, 0), 127)


def unit_of(text: str) -> int | None:
    match = re.match(r"(\d{1,4})\s*(?:/\s*(\d{1,4}))?", text)
    return int(match[1]) * WHOLE // int(match[2] or 1) or None if match and int(match[2] or 1) else None


def meter_of(text: str) -> tuple[int, bool]:
    """Ticks a bar (0: free), and whether its beats are of three."""
    if text.startswith("C"):
        return WHOLE, False
    match = re.match(r"\(?\s*(\d{1,3}(?:\s*\+\s*\d{1,3})*)\s*\)?\s*/\s*(\d{1,3})", text)
    if not match or not int(match[2]):
        return 0, False
    beats = sum(int(part) for part in match[1].split("+"))
    return beats * WHOLE // int(match[2]), beats % 3 == 0 and int(match[2]) >= 8


def tempo_of(text: str, unit: int) -> float | None:
    """Quarter notes a minute."""
    text = re.sub(r'"[^"]*"', "", text)
    if (match := re.search(r"(\d{1,3})/(\d{1,3})\s*=\s*(\d{1,4})", text)) and int(match[2]):
        quarters = int(match[1]) * 4 * int(match[3]) / int(match[2])
    elif match := re.search(r"(\d{1,4})\s*$", text):
        quarters = unit * 4 * int(match[1]) / WHOLE
    else:
        return None
    return quarters if 10 <= quarters <= 1000 else None


def key_of(text: str) -> dict[str, int]:
    """Letter -> semitones, of a key such as D, F#m, Ador or `D =c ^g`; without one it is C."""
    if text[:2] in ("HP", "Hp"):
        return {"F": 1, "C": 1}
    key: dict[str, int] = {}
    if match := re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", text):
        word = "m" if match[3] == "m" else match[3].lower()[:3]
        fifths = _FIFTHS[match[1]] + 7 * {"#": 1, "b": -1, "": 0}[match[2]] + _MODES.get(word, 0)
        for i in range(min(abs(fifths), 7)):
            key["FCGDAEB"[i] if fifths > 0 else "BEADGCF"[i]] = 1 if fifths > 0 else -1
    for accidental, letter in re.findall(r"(?<=\s)(\^\^?|__?|=)([A-Ga-g])(?![a-z])", text):
        key[letter.upper()] = ALTER[accidental]
    return key
