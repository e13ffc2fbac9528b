"""Hides secrets in what others send: by what a value is called, and by what looks like a secret in a text.

Whoever sends an event may have put anything into it: environment variables, connection strings, a driver's error. It is
masked as it comes in, before it is checked or stored, so that nothing which is made of it can show more. Nearly all
events have nothing to mask; these are seen by a few searches of their bytes and stay as they came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from aiflow_sdk.redaction import (
    AWS_KEY_ID,
    HIDDEN,
    ISSUED_TOKEN,
    ISSUED_TOKENS,
    KINDS_OF_KEY,
    PRIVATE_KEY,
    REFERENCE,
)

_NAME = re.compile(
    rf"passw|passphrase|secret|credential|authorization|cookie|signature|{KINDS_OF_KEY}[-_. ]?key"
    r"|(?:token|(?:^|[^a-z])(?:pwd|sas))(?:$|[^a-z])",
    re.IGNORECASE,
)
_MANY = re.compile(r"(?:passwords|secrets|credentials|tokens|cookies)", re.IGNORECASE)
"""Names of objects and lists in which everything is one."""
# Nothing may be tried again over text that was looked through before: whoever sends decides how long that is.
_TEXT = re.compile(
    r"""(?P<address>(?<=[a-z0-9+.-])://[^\s/:@"']*:)[^\s/"']+(?=@)"""
    rf"""|(?P<pair>(?:passw(?:or)?d|\bpwd|passphrase|{KINDS_OF_KEY}[-_.]?key|secret"""
    r"""|(?:access|auth|api|bearer|refresh|id|session|security)[-_.]?token|\btoken(?==)|[?&]sig(?==))[a-z_]{0,40}"""
    r"""\\?["']?\s*[=:](?!//|=)\s*)(?P<value>\\?"[^"]*"|'[^']*'|[^\s;&,"')}\]]+)"""
    r"""|(?P<scheme>\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}"""
    rf"""|\b{AWS_KEY_ID}\b"""
    r"""|\baiflow_[a-z0-9_-]{43}|(?<![a-z0-9_-])eyJ[a-z0-9_-]{8,}\.[a-z0-9_-]{8,}\.[a-z0-9_-]*"""
    rf"""|\b(?:{ISSUED_TOKEN})"""
    rf"""|{PRIVATE_KEY}(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)""",
    re.IGNORECASE | re.DOTALL,
)
_STRING = r'"(?:[^"\\]|\\.)*+"'
_KEYED = re.compile(rf'"((?:[^"\\]|\\.)*+)(?:"(?:(\s*+:\s*+){_STRING})?|$)')
_NAMED = re.compile(rf'("(?:name|key)"\s*:\s*"((?:[^"\\]|\\.)*+)"\s*,\s*"value"\s*:\s*){_STRING}')
"""Members of objects, where what was sent is no whole JSON."""
_SHORTEST = 8
_TEXT_SIGNS = (":", "=", " ", "AKIA", "ASIA", "eyJ", "aiflow_", *ISSUED_TOKENS)
"""Without any of these a text has nothing to hide: most are names."""
_SIGNS = (
    *(b"passw", b"passphrase", b"secret", b"credential", b"authorization", b"cookie", b"signature", b"token", b"pwd"),
    *(b"apikey", b"accesskey", b"accountkey", b"sharedkey", b"signingkey", b"encryptionkey", b"privatekey", b"sas"),
    *(b"bearer", b"basic", b"akia", b"asia", b"eyj", b"sig=", b"\\u00"),
)
"""Without any of these, in small letters and without what parts words, only an address or a token of ours is masked."""
_ISSUED_BYTES = tuple(one.encode() for one in ISSUED_TOKENS)
_OURS = re.compile(rb"aiflow_[A-Za-z0-9_-]{43}")
_BY_COLUMN = frozenset({"columnLineage", "dataQualityMetrics", "schema"})
"""Facets whose keys are columns: a column may be called ``password``, which is no secret."""
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_DEEPEST = 100
_REMEMBERED_LETTERS = 200


def may_hold_secrets(raw: bytes) -> bool:
    """Tell whether it is worth to look closer; of what has secrets it is always true."""
    if b"@" in raw and (b"://" in raw or b"\\/" in raw):  # a slash may be escaped
        return True
    for sign in _ISSUED_BYTES:  # loops, for a generator takes twice as long, and nearly every event passes here
        if sign in raw:
            return True
    letters = raw.lower().translate(None, b"-_. ")
    for sign in _SIGNS:
        if sign in letters:
            return True
    return b"aiflow_" in raw and _OURS.search(raw) is not None


def hide_secrets(document: Any) -> Any:
    """Return plain data without secrets; the very same where there are none."""
    return _hide(document, False, False, 0)


def mask_document(document: Any, raw: bytes) -> tuple[Any, bytes]:
    """Return a document and its text without secrets; the very same where there are none.

    Of a member that an object has twice the last counts: what the others held is in the text alone, which is then
    written anew.
    """
    masked = hide_secrets(document)
    if masked is document and not _has_repeats(document, raw):
        return document, raw
    return masked, _ENCODER.encode(masked)


def without_spaces(text: bytes) -> bytes:
    """Return a text without what may stand between the parts of JSON, also where it stands within them."""
    return text.translate(None, b" \t\r\n")


def _has_repeats(document: Any, raw: bytes) -> bool:
    if len(without_spaces(raw)) == len(without_spaces(_ENCODER.encode(document))):
        return False  # as nearly always; else it may be written in another way too
    try:
        json.loads(raw, object_pairs_hook=_each_once, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return True
    return False


def _each_once(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) < len(members):
        raise ValueError("a member stands twice")


def hide_secrets_in_bytes(raw: bytes) -> bytes:
    """Return what was sent, JSON or not, without secrets; the very same bytes where there are none."""
    if not may_hold_secrets(raw):
        return raw
    try:
        return mask_document(_DECODER.decode(raw), raw)[1]
    except (msgspec.DecodeError, RecursionError):  # whatever it is, its text is searched
        text = raw.decode("latin-1")
        hidden = hide_secrets_in_text(_NAMED.sub(_unnamed, _KEYED.sub(_unkeyed, text)))
        return raw if hidden == text else hidden.encode("latin-1")


def hide_secrets_in_text(text: str) -> str:
    """Return a text without passwords of addresses, pairs such as ``password=…``, tokens and private keys."""
    if len(text) < _SHORTEST or not any(sign in text for sign in _TEXT_SIGNS):
        return text
    return _TEXT.sub(_replaced, text)


def is_name_of_secret(name: str) -> bool:
    """Tell whether what is called so is a secret, however its words are joined."""
    # What is long comes from whoever wants to fill the memory, and not again.
    return _is_name_of_secret(name) if len(name) <= _REMEMBERED_LETTERS else _NAME.search(name) is not None


@lru_cache(maxsize=10_000)
def _is_name_of_secret(name: str) -> bool:
    return _NAME.search(name) is not None


def _hide(value: Any, is_secret: bool, by_column: bool, depth: int) -> Any:
    match value:
        case str():
            if is_secret and value and not value.startswith(REFERENCE):
                return HIDDEN
            hidden = hide_secrets_in_text(value)
            return value if hidden == value else hidden
        case bool() | None:
            return value
        case int() | float():
            return HIDDEN if is_secret else value
        case Mapping() | list() if depth > _DEEPEST:
            return HIDDEN
        case Mapping():
            return _hide_in_object(value, is_secret, by_column, depth)
        case list():
            masked = [_hide(one, is_secret, by_column, depth + 1) for one in value]
            return masked if any(new is not old for new, old in zip(masked, value, strict=True)) else value
        case _:
            return value


def _hide_in_object(value: Mapping[str, Any], is_secret: bool, by_column: bool, depth: int) -> Mapping[str, Any]:
    called = value.get("name", value.get("key"))
    is_pair = isinstance(called, str) and "value" in value and is_name_of_secret(called)
    masked: dict[str, Any] = {}
    is_changed = False
    for key, one in value.items():
        inside = by_column or key in _BY_COLUMN
        if type(one) is dict or type(one) is list:
            hides = is_secret or (not by_column and (_MANY.fullmatch(key) is not None or _is_pairs_value(key, is_pair)))
            hides = hides or (type(one) is list and not by_column and is_name_of_secret(key))
        else:
            hides = is_secret or (not by_column and is_name_of_secret(key)) or _is_pairs_value(key, is_pair)
        new = _hide(one, hides, inside, depth + 1)
        name = hide_secrets_in_text(key)
        is_changed = is_changed or new is not one or name != key
        masked[name] = new
    return masked if is_changed else value


def _is_pairs_value(key: str, is_pair: bool) -> bool:
    return is_pair and key == "value"


def _unkeyed(found: re.Match[str]) -> str:
    """Hide what a string is the name of; a string that is none, or has no end, is passed over whole."""
    if found[2] is None or not is_name_of_secret(found[1]):
        return found[0]
    return f'"{found[1]}"{found[2]}"{HIDDEN}"'


def _unnamed(found: re.Match[str]) -> str:
    return f'{found[1]}"{HIDDEN}"' if is_name_of_secret(found[2]) else found[0]


def _replaced(found: re.Match[str]) -> str:
    hidden = HIDDEN
    if (value := found["value"]) and value[-1] in "\"'":
        quote = value[-2:] if value.startswith("\\") else value[-1]
        hidden = f"{quote}{HIDDEN}{quote}"
    return f"{found['address'] or found['pair'] or found['scheme'] or ''}{hidden}"
