"""Personal data in a text: mail addresses, phone, card and account numbers, network addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from filters.rules.secrets import secrets

Kind = Literal["key", "card", "iban", "mail", "phone", "ip"]


class Found(NamedTuple):
    """Where a piece of personal data stands, in characters."""

    kind: Kind
    start: int
    end: int


_MAIL = re.compile(
    r"(?<![\w.%+-])([\w.%+-]{1,64})@((?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24})(?![\w@-])(?!\.[A-Za-z])", re.ASCII
)
# RFC 2606 and 6761 keep these names free; the others are what people write for "some address".
_NO_DOMAIN = re.compile(
    r"(?:^|\.)(?:example\.\w+(?:\.\w+)?|example|test|invalid|localhost|local)$"
    r"|^(?:domain|email|mail|your\w*|my\w*|company\w*|some\w*|website|site|xyz|abc|foo|bar|test)\.\w+$|x{4}|\.(?:png"
    r"|jpe?g|gif|svg|css|js)$",
    re.IGNORECASE,
)
_NO_NAME = re.compile(
    r"^(?:(?:e-?mail|user(?:_?name)?|name|address|id|example|test|foo|bar|git|me|you)\d*)$"
    r"|your|sender|recipient|receiver|e?mail[._-]?addr|x{4}|\.\.",
    re.IGNORECASE,
)

_IN_URL = re.compile(r"://\S*$")  # name and password for a server

_PHONE = re.compile(
    r"(?<![\w+./=-])(?:\+[1-9]\d{0,2}[ .\-/(]{0,2}(?:\d[ .\-/()]{0,2}){6,13}\d"  # E.164, at most 15 digits
    r"|(?:\+?1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])[2-9]\d{2}[-. ]\d{4})(?![\w/-]|\.\d)",  # North America
    re.ASCII,
)
_CALLED = re.compile(
    r"(?:\b(?:tel(?:efon|ephone|éfono)?|phone|mobile|handy|cell|fax|call(?: us| me)?|whatsapp|tél(?:éphone)?)\b"
    r"|电话|手机|联系方式)"
    r"[^\w+(\n]{0,6}(?:(?:number|at|on|nummer|号码|是"
    r"|为)[^\w+(\n]{0,4}){0,2}(\(?\d(?:[ ().\-/]{0,2}\d){6,13})(?![\w-])",
    re.IGNORECASE,
)
_FICTION = re.compile(r"555-?\d{4}$|^1?\d{3}555\d{4}$")  # North American numbers for films and books

_CARD = re.compile(
    r"(?<![\w.,+/-])(?:\d{13,19}|\d{4}(?:[ -]\d{4}){3}(?:[ -]\d{1,3})?|\d{4}[ -]\d{6}[ -]\d{4,5})(?![\w-]|[.,]\d)",
    re.ASCII,
)
_ISSUER = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6011|64[4-9]|65|62|35|3(?:0[0-5]|[68])")
# Numbers that payment services publish for trying things out.
_TRIAL_CARDS = frozenset(
    (
        "4111111111111111",
        "4242424242424242",
        "4012888888881881",
        "4000056655665556",
        "5555555555554444",
        "5105105105105100",
        "378282246310005",
        "371449635398431",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
    )
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IBAN_LENGTHS = {  # ISO 13616 registry: the countries whose accounts are met most
    "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18,
    "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SA": 24, "SE": 24,
    "SI": 19, "SK": 24, "TR": 26, "AE": 23, "UA": 29, "BR": 29,
}  # fmt: skip
_SAMPLE_IBANS = frozenset(
    ("DE89370400440532013000", "GB82WEST12345698765432", "GB29NWBK60161331926819", "FR1420041010050500013M02606")
)

_IP4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)", re.ASCII)
_IP6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])", re.ASCII)
_GLOBAL_IP6 = ipaddress.IPv6Network("2000::/3")  # RFC 4291
_VERSION = re.compile(
    r"(?:\bv|\bver(?:sion)?s?\b|\brelease|\bbuild|\bfirmware|\bsection|版本|[A-Za-z]/|[<>=~^]=?|§)[\s:.#]{0,3}$",
    re.IGNORECASE,
)
_PUBLIC_RESOLVERS = frozenset(
    ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220")
)


def find(text: str) -> list[Found]:
    """The personal data in `text` by where it stands; where two kinds overlap, the surer one (the order of `Kind`)."""
    found: list[Found] = []
    for kind, start, end in _all(text):
        if not any(start < other.end and other.start < end for other in found):
            found.append(Found(kind, start, end))
    return sorted(found, key=lambda piece: piece.start)


def _all(text: str) -> Iterator[Found]:
    yield from (Found("key", start, end) for start, end in secrets(text))
    if not any(char.isdigit() for char in text) and "@" not in text:
        return
    yield from (Found("card", *m.span()) for m in _CARD.finditer(text) if _is_card(m.group()))
    yield from (Found("iban", *m.span()) for m in _IBAN.finditer(text) if is_iban(m.group()))
    for match in _MAIL.finditer(text):
        in_url = _IN_URL.search(text[max(0, match.start() - 80) : match.start()])
        if not (in_url or _NO_DOMAIN.search(match[2]) or _NO_NAME.search(match[1])):
            yield Found("mail", *match.span())
    yield from (Found("ip", *m.span()) for m in _IP4.finditer(text) if _is_address4(text, m))
    yield from (Found("ip", *m.span()) for m in _IP6.finditer(text) if _is_address6(m.group()))
    yield from (Found("phone", *m.span()) for m in _PHONE.finditer(text) if _is_phone(m.group()))
    yield from (Found("phone", *m.span(1)) for m in _CALLED.finditer(text) if _is_phone(m[1]))


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for i, char in enumerate(reversed(digits)):
        value = int(char) * (1 + i % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_iban(text: str) -> bool:
    """Whether `text` has the length of its country and the check digits of ISO 7064, mod 97-10."""
    bare = text.replace(" ", "")
    if _IBAN_LENGTHS.get(bare[:2]) != len(bare) or bare in _SAMPLE_IBANS:
        return False
    return int("".join(str(int(char, 36)) for char in bare[4:] + bare[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return bool(_ISSUER.match(digits)) and len(set(digits)) > 2 and digits not in _TRIAL_CARDS and luhn(digits)


def _is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if (
        not 7 <= len(digits) <= 15
        or len(set(digits)) < 4
        or any(run in digits for run in ("123456", "987654", "214748364", "429496729"))
        or _FICTION.search(digits)
    ):
        return False
    return not re.fullmatch(r"(?:19|20)\d\d\s?[-/.]\s?(?:19|20)?\d\d(?:\s?[-/.]\s?\d\d)?", text)  # years, dates


def _is_address4(text: str, match: re.Match[str]) -> bool:
    if match.group() in _PUBLIC_RESOLVERS or _VERSION.search(text[max(0, match.start() - 12) : match.start()]):
        return False
    try:
        address = ipaddress.IPv4Address(match.group())
    except ValueError:
        return False
    # 1.2.3.4 and 4.3.1.2 are numbers of versions and sections far more often than addresses,
    # and what ends in 0 is a network.
    parts = match.group().split(".")
    return address.is_global and not address.is_multicast and parts[3] != "0" and any(len(part) > 1 for part in parts)


def _is_address6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return address in _GLOBAL_IP6 and address.is_global
