"""The projects that ``aiflow init`` makes: text files beside this module, and orders of a small shop."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from aiflow_sdk.errors import ConfigurationError, StoreError

EXAMPLES = ("shop", "empty")
_TEXTS = Path(__file__).parent / "examples"
_PRODUCTS = (
    ("green tea 100 g", 6.9),
    ("black tea 100 g", 5.4),
    ("teapot", 34.0),
    ("mug", 11.5),
    ("honey 250 g", 7.2),
    ("filter papers", 2.8),
)


def make_project(folder: Path, example: str, last: date) -> list[Path]:
    """Write the example into ``folder`` and return its files. ``last`` is the last day that the shop has orders of.

    Raises ``ConfigurationError`` where the folder holds anything, ``StoreError`` where it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError("folder-not-empty", f"{folder} is a file", hint="name a folder that is not there yet")
    try:
        # A repository that was just made is as good as empty.
        found = sorted(path.name for path in folder.iterdir() if path.name != ".git") if folder.exists() else []
        if found:
            raise ConfigurationError(
                "folder-not-empty",
                f"{folder} is not empty, so nothing was written",
                hint="name a folder that is not there yet",
                notes=[f"it holds {', '.join(found[:5])}{' …' if len(found) > 5 else ''}"],
            )
        written = []
        for name, text in _files(example, folder, last):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
        return written
    except OSError as error:
        raise StoreError(
            "store-not-writable",
            f"{error.filename or folder} cannot be written: {error.strerror}",
            hint="name a folder that you may write to",
        ) from error


def days_of_orders(last: date) -> list[date]:
    """Return the days that the shop has orders of: from the first of the month before, so that one is whole."""
    day = (last.replace(day=1) - timedelta(days=1)).replace(day=1)
    return [day + timedelta(days=number) for number in range((last - day).days + 1)]


def _files(example: str, folder: Path, last: date) -> Iterator[tuple[str, str]]:
    words = {
        "{title}": folder.resolve().name,
        "{date}": last.isoformat(),
        "{first}": days_of_orders(last)[0].isoformat(),
    }
    for path in sorted((_TEXTS / example).rglob("*.txt")):
        name = path.relative_to(_TEXTS / example).as_posix().removesuffix(".txt")
        text = path.read_text("utf-8")
        if path.parent == _TEXTS / example:  # not the code, where braces mean something
            for word, meant in words.items():
                text = text.replace(word, meant)
        yield (".gitignore" if name == "gitignore" else name), text
    if example == "shop":
        for day in days_of_orders(last):
            yield f"data/orders/dt={day}/orders.csv", _orders(day)


def _orders(day: date) -> str:
    """Return a day's orders as CSV: the same for the same day, more at weekends, a few free samples among them."""
    chance = random.Random(day.isoformat())
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["order_id", "ordered_at", "customer_id", "product", "quantity", "price"])
    seconds = sorted(
        chance.randrange(8 * 3600, 22 * 3600) for _ in range(chance.randint(12, 24) + 10 * (day.weekday() >= 5))
    )
    for number, second in enumerate(seconds, 1):
        product, price = chance.choices(_PRODUCTS, weights=(6, 5, 1, 2, 3, 3))[0]
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        paid = 0.0 if chance.random() < 0.05 else price
        rows.writerow(
            [
                f"{day:%Y%m%d}{number:03}",
                f"{day}T{clock}",
                chance.randint(1, 400),
                product,
                chance.choice((1, 1, 1, 2, 2, 3)),
                paid,
            ]
        )
    return text.getvalue()
