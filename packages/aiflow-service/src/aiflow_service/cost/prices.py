"""Prices by date, from a TOML file that whoever pays for the machines keeps."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import ConfigurationError, Where
from aiflow_service.database.moments import moment_of

_SETTINGS = {"currency", "prices", "estimate"}
_FIGURES = ("cpu_second", "memory_gib_second")
_ESTIMATE = ("cpus", "memory_gib")


@dataclass(frozen=True)
class Price:
    """What things cost from a moment on, until the next price."""

    since: int
    cpu_second: Decimal
    memory_gib_second: Decimal
    units: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    """What clusters bill: by kind of cluster and unit."""


@dataclass(frozen=True)
class Prices:
    """All prices, the oldest first, and what an attempt is taken to have held where nobody measured it."""

    currency: str | None = None
    known: tuple[Price, ...] = ()
    estimated_cpus: Decimal = Decimal(1)
    estimated_memory_gib: Decimal = Decimal(1)


NO_PRICES = Prices()
"""Where nobody has said what things cost: then usage is told, and no cost."""


def read_prices(path: Path) -> Prices:
    """Read a file of prices. Raises ``ConfigurationError`` (``prices``) with what is wrong in it, and where."""
    try:
        told = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, f"the file of prices {path} cannot be read: {error}") from error
    if unknown := sorted(told.keys() - _SETTINGS):
        raise _wrong(path, f"prices have no setting '{unknown[0]}'")
    currency = told.get("currency")
    if not isinstance(currency, str) or not currency.strip():
        raise _wrong(path, "the currency is missing", 'write currency = "EUR" at the top')
    listed = told.get("prices")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
        raise _wrong(path, "there are no prices", "write at least one [[prices]] with a day from which it holds")
    known = sorted((_price(path, number, one) for number, one in enumerate(listed, 1)), key=lambda one: one.since)
    for one, other in pairwise(known):
        if one.since == other.since:
            raise _wrong(path, "two prices hold from the same moment", "keep one of them")
    estimate = told.get("estimate", {})
    if not isinstance(estimate, dict) or estimate.keys() - set(_ESTIMATE):
        raise _wrong(path, "[estimate] holds cpus and memory_gib")
    cpus, memory = (_figure(path, "estimate", estimate, name, Decimal(1)) for name in _ESTIMATE)
    return Prices(currency.strip(), tuple(known), cpus, memory)


def _price(path: Path, number: int, told: Mapping[str, Any]) -> Price:
    place = f"prices {number}"
    if unknown := sorted(told.keys() - {"from", "units", *_FIGURES}):
        raise _wrong(path, f"{place}: there is no setting '{unknown[0]}'")
    since = told.get("from")
    if isinstance(since, datetime) and since.tzinfo is not None:
        moment = since
    elif isinstance(since, date) and not isinstance(since, datetime):
        moment = datetime(since.year, since.month, since.day, tzinfo=UTC)
    else:
        raise _wrong(path, f"{place}: from is no day, and no time with its zone", "write from = 2026-01-01")
    cpu, memory = (_figure(path, place, told, name, None) for name in _FIGURES)
    units = told.get("units", {})
    if not isinstance(units, dict) or not all(isinstance(one, dict) for one in units.values()):
        raise _wrong(path, f"{place}: units holds a table for each kind of cluster", "write [prices.units.KIND]")
    of_clusters = {
        (cluster, unit): _figure(path, f"{place}, units of {cluster}", figures, unit, None)
        for cluster, figures in units.items()
        for unit in figures
    }
    return Price(moment_of(moment), cpu, memory, of_clusters)


def _figure(path: Path, place: str, told: Mapping[str, Any], name: str, default: Decimal | None) -> Decimal:
    value = told.get(name, default)
    try:
        figure = Decimal(value) if isinstance(value, int | str | Decimal) and not isinstance(value, bool) else None
    except InvalidOperation:
        figure = None
    if figure is None or not figure.is_finite() or not 0 <= figure < 10**12:
        raise _wrong(path, f"{place}: {name} is no amount", f"write {name} = 0.000012")
    return figure


def _wrong(path: Path, message: str, hint: str = "see docs/cost.md") -> ConfigurationError:
    return ConfigurationError("prices", message, where=Where(path.name), hint=hint)
