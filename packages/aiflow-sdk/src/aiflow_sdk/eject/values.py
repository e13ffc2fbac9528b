"""Raw values of a plan, templates and secret references in them, as Python text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from aiflow_sdk.eject.layout import Code, Group, call, escaped, keyword, literal, quoted
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.partitions import Grain
from aiflow_sdk.variables import Reference, has_secret, has_template, replace_templates, secret_name


class Values:
    """Writes values as a run knows them: by the variables ``day`` (or ``hour`` …), ``params`` and ``run_id``."""

    def __init__(self, grain: Grain | None, secrets: Mapping[str, Any], notes: Notes) -> None:
        self.grain = grain
        self._secrets = secrets
        self._notes = notes

    def code(self, raw: Any) -> Code:
        """Return a raw value: text, numbers, lists, mappings."""
        match raw:
            case str() if has_secret(raw):
                return self._secret(secret_name(raw) or "")
            case str() if has_template(raw):
                return self.text(raw)
            case Mapping():
                return Group("{", tuple(keyword(quoted(str(k)), self.code(v), ": ") for k, v in raw.items()), "}")
            case list() | tuple():
                return Group("[", tuple(map(self.code, raw)), "]")
            case _:
                return literal(raw)

    def text(self, raw: str) -> str:
        """Return a text with templates: one that is nothing but a template as its value."""
        pieces = list(_pieces(raw))
        if len(pieces) == 1 and isinstance(pieces[0], Reference):
            return self.reference(pieces[0])
        return fstring([piece if isinstance(piece, str) else (self.inside(piece),) for piece in pieces])

    def key(self) -> str:
        """Return the key of the run's partition."""
        return "hour_key(hour)" if self.grain == "hour" else f"{self.grain}.isoformat()"

    def reference(self, reference: Reference) -> str:
        """Return what a template stands for, as an expression."""
        if (plain := self._plain(reference, '"')) is not None:
            return plain
        time, _ = self._time(reference)
        if reference.pattern is not None:
            return f"{_called(time)}.strftime({quoted(reference.pattern)})"
        return f"{_called(time)}.isoformat()"

    def inside(self, reference: Reference, quote: str = "'") -> str:
        """Return what stands in the braces of an f-string, of whose own quotes ``quote`` is not one."""
        if (plain := self._plain(reference, quote)) is not None:
            return f"text_of({plain})" if reference.name.startswith("params.") else plain
        time, is_date = self._time(reference)
        if reference.pattern is not None:
            return f"{time}:{reference.pattern}"
        return time if is_date else f"{_called(time)}.isoformat()"

    def shifted(self, periods: int) -> str:
        """Return the run's partition, or the one so many periods later."""
        match self.grain:
            case "hour":
                return f"hours_later(hour, {periods})" if periods else "hour"
            case "month":
                return f"month_of(month, {periods})" if periods else "month"
            case grain:
                sign = "-" if periods < 0 else "+"
                return f"{grain} {sign} timedelta({grain}s={abs(periods)})" if periods else str(grain)

    def start(self, periods: int = 0) -> str:
        """Return the moment at which the partition begins."""
        return self.shifted(periods) if self.grain == "hour" else f"start_of({self.shifted(periods)})"

    def _plain(self, reference: Reference, quote: str) -> str | None:
        name = reference.name
        if name.startswith("params."):
            return "params" + "".join(f"[{quote}{part}{quote}]" for part in name.split(".")[1:])
        return {"run_id": "run_id", "pipeline_id": "PIPELINE_ID"}.get(name)

    def _time(self, reference: Reference) -> tuple[str, bool]:
        match reference.name:
            case "ds" if self.grain == "hour":
                return f"{self.shifted(reference.offset)}.date()", True
            case "ds":
                return self.shifted(reference.offset), True
            case "data_interval_end":
                return self.start(reference.offset + 1), False
            case _:
                return self.start(reference.offset), False

    def _secret(self, name: str) -> Code:
        provider = str(self._secrets.get("provider", "env"))
        if provider == "env":
            prefix = str(self._secrets.get("prefix", "AIFLOW_SECRET_"))
            return f"os.environ[{quoted(prefix + re.sub(r'[^A-Z0-9]', '_', name.upper()))}]"
        prefix = str(self._secrets.get("prefix", "aiflow_")) if provider == "airflow" else "aiflow_"
        connection, _, field = name.partition("/")
        if provider != "airflow":
            self._notes.add(
                f"secrets of the provider '{provider}': 'secret://{name}' is read from Airflow's connection "
                f"'{prefix}{connection}', which somebody has to make"
            )
        given = [quoted(prefix + connection), *([quoted(field)] if field else [])]
        return call("connection_secret", *given)


def fstring(pieces: list[str | tuple[str]], quote: str = '"') -> str:
    """Return an f-string of texts and, as tuples of one, what stands in braces."""
    if not any(isinstance(piece, tuple) for piece in pieces):
        return quote + "".join(escaped(str(piece), quote) for piece in pieces) + quote
    text = "".join(
        f"{{{piece[0]}}}" if isinstance(piece, tuple) else escaped(piece, quote).replace("{", "{{").replace("}", "}}")
        for piece in pieces
    )
    return f"f{quote}{text}{quote}"


def _pieces(raw: str) -> Iterator[str | Reference]:
    found: list[Reference] = []
    mark = uuid4().hex

    def taken(reference: Reference) -> str:
        found.append(reference)
        return mark

    texts = replace_templates(raw, taken).split(mark)
    for number, text in enumerate(texts):
        if number:
            yield found[number - 1]
        if text:
            yield text


def _called(expression: str) -> str:
    """Return the expression so that a method of it can be called."""
    return f"({expression})" if re.match(r"\w+ [+-] ", expression) else expression
