"""Items of an RSS or Atom feed as rows: a whole third-party source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import HttpUrl, PositiveInt

from aiflow_example_plugin.feed import fetch_items
from aiflow_sdk.plugins import DatasetName, Scan, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Rss(Source, kind="rss"):
    """Items of one feed, in the feed's order.

    Columns: ``title`` string, ``link`` string, ``published`` timestamp[us, UTC]; null where an item has none.
    Formats: RSS 2.0 (https://www.rssboard.org/rss-specification), Atom (RFC 4287).
    """

    url: HttpUrl
    limit: PositiveInt = 100

    def dataset(self) -> DatasetName:
        """Return the feed's server as namespace, its path as name."""
        return DatasetName(f"{self.url.scheme}://{self.url.host}:{self.url.port}", self.url.path or "/")

    def arrow_schema(self) -> pa.Schema:
        """Return the columns, which are the same for every feed."""
        import pyarrow as pa

        return pa.schema({"title": pa.string(), "link": pa.string(), "published": pa.timestamp("us", "UTC")})

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the items in one batch. Raises ``DataError`` for what is no feed, ``DataNotReadyError``."""
        import pyarrow as pa

        # A limit is meant for the rows that the predicates leave, which the engine applies.
        wanted = request.limit if request.limit is not None and not request.predicates else self.limit
        items = fetch_items(str(self.url))[: min(self.limit, wanted)]
        yield pa.RecordBatch.from_pylist([item._asdict() for item in items], schema=self.arrow_schema())
