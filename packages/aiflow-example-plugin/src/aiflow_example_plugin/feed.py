"""Reads feeds: RSS 2.0 and Atom, from servers that nobody vouches for."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from aiflow_sdk.errors import DataError, DataNotReadyError

MAX_BYTES = 32 * 2**20
TIMEOUT_SECONDS = 30
_ATOM = "{http://www.w3.org/2005/Atom}"


class Item(NamedTuple):
    """One item of a feed."""

    title: str | None
    link: str | None
    published: datetime | None


def fetch_items(url: str) -> list[Item]:
    """Return the items of the feed at ``url``, in its order.

    Raises ``DataNotReadyError`` when the server does not answer, ``DataError`` for what is no feed.
    """
    try:
        with urlopen(Request(url, headers={"User-Agent": "aiflow-example-plugin"}), timeout=TIMEOUT_SECONDS) as answer:
            text = answer.read(MAX_BYTES + 1)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise DataNotReadyError(
            "feed-unreachable", f"the feed {url} does not answer: {error}", hint="look at the address", retryable=True
        ) from error
    if len(text) > MAX_BYTES:
        raise DataError("not-a-feed", f"the feed {url} is larger than {MAX_BYTES // 2**20} MiB")
    return read_items(text, url)


def read_items(text: bytes, url: str) -> list[Item]:
    """Return the items of a feed's XML. Raises ``DataError`` for what is neither RSS nor Atom."""
    parser = ET.XMLParser(target=_Plain())
    try:
        parser.feed(text)
        root = parser.close()
    except (ET.ParseError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise DataError("not-a-feed", f"the feed {url} is not well-formed XML: {error}") from error
    if root.tag == "rss":
        return [_rss(item) for item in root.iterfind("channel/item")]
    if root.tag == f"{_ATOM}feed":
        return [_atom(entry) for entry in root.iterfind(f"{_ATOM}entry")]
    raise DataError(
        "not-a-feed", f"{url} holds <{root.tag}>, neither RSS nor Atom", hint="look for the feed's own address"
    )


class _Plain(ET.TreeBuilder):
    """Takes no document type: there is none in a feed, and entities are how XML attacks its reader."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError(
            "not-a-feed", "the feed declares a document type, which is refused", hint="ask for a plain feed"
        )


def _rss(item: ET.Element) -> Item:
    published = _text(item.findtext("pubDate"))
    return Item(_text(item.findtext("title")), _text(item.findtext("link")), _moment(published, parsedate_to_datetime))


def _atom(entry: ET.Element) -> Item:
    links = {link.get("rel", "alternate"): link.get("href") for link in entry.iterfind(f"{_ATOM}link")}
    published = _text(entry.findtext(f"{_ATOM}published") or entry.findtext(f"{_ATOM}updated"))
    title = entry.find(f"{_ATOM}title")
    return Item(
        _text("".join(title.itertext())) if title is not None else None,
        links.get("alternate"),
        _moment(published, datetime.fromisoformat),
    )


def _moment(text: str | None, read: object) -> datetime | None:
    try:
        moment = read(text) if text and callable(read) else None
    except ValueError:
        return None
    # RFC 822 writes "-0000" where the zone is not known; UTC is meant.
    return moment.astimezone(UTC) if moment and moment.tzinfo else moment and moment.replace(tzinfo=UTC)


def _text(text: str | None) -> str | None:
    return " ".join(text.split()) or None if text else None
