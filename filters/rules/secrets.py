"""Keys and passwords in a text: by the shapes that their issuers give them, and by disorder behind a telling name."""

from __future__ import annotations

import math
import re
from collections import Counter

# Issuers give their keys a prefix so that they can be found; these prefixes and lengths are in their documentation.
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"A[KS]IA[0-9A-Z]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,80}|github_pat_[A-Za-z0-9_]{40,90}"  # GitHub
    r"|glpat-[A-Za-z0-9_-]{20,40}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,120}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}"  # Google
    r"|sk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,200}"  # OpenAI, Anthropic, OpenRouter
    r"|[sr]k_live_[0-9A-Za-z]{16,120}"  # Stripe
    r"|hf_[A-Za-z]{34}"  # Hugging Face
    r"|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"  # SendGrid
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"  # a signed JSON Web Token
    r")(?![A-Za-z0-9_-])"
)
# The whole of it, or where its end is missing what looks like its lines.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY-----"
    r"(?:(?:(?!-----)[\s\S]){0,20000}-----END (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY-----"
    r"|(?:(?:\s|\\n)*[A-Za-z0-9+/=]{20,100})*)"
)
_NAMED = re.compile(
    r"(?:api[_ -]?key|secret(?:[_ -]?key)?|access[_ -]?(?:key|token)|auth[_ -]?token|bearer|client[_ -]?secret"
    r"|passw(?:or)?d)"
    r"[\"']?\s{0,3}(?:[:=]|=>)?\s{0,3}[\"']?([A-Za-z0-9+/_=.-]{20,200})(?![A-Za-z0-9+/_=.-])",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>]{1,64}:([^\s:/@\"'<>{}\[\]$*]{4,80})@", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"example|your|x{4}|\*{3}|placeholder|dummy|sample|changeme|secret|password|token|12345|abcde|0{6}|foo|bar",
    re.IGNORECASE,
)
_DISORDER = 3.5  # bits a character: words and paths of code stay below, random base64 or hex-with-letters above


def secrets(text: str) -> list[tuple[int, int]]:
    """(start, end) of keys of known issuers, private keys, passwords in URLs and random values with a telling name."""
    found = [match.span() for match in _SHAPES.finditer(text) if not _PLACEHOLDER.search(match.group())]
    found += [match.span() for match in _PRIVATE_KEY.finditer(text)]
    found += [m.span(1) for m in _IN_URL.finditer(text) if not _PLACEHOLDER.search(m[1]) and len(set(m[1])) > 2]
    for match in _NAMED.finditer(text):
        value = match[1]
        if _mixed(value) and not _PLACEHOLDER.search(value) and entropy(value) >= _DISORDER:
            found.append(match.span(1))
    return found


def entropy(text: str) -> float:
    """Shannon's entropy of the characters of `text` (Shannon 1948), in bits a character: hex has at most 4."""
    length = len(text)
    return -sum(count / length * math.log2(count / length) for count in Counter(text).values())


def _mixed(value: str) -> bool:
    """Digits and letters, and more than a digit at the end of a name."""
    return sum(char.isdigit() for char in value) >= 3 and any(char.isalpha() for char in value)
