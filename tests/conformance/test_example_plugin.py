"""A stranger's source: it passes the suite that ours pass, and works on both engines, because it speaks Arrow."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import entry_points
from typing import Any

import pytest

from aiflow_example_plugin import Rss
from aiflow_example_plugin.feed import Item, read_items
from aiflow_sdk import source
from aiflow_sdk.errors import DataError, DataNotReadyError
from aiflow_sdk.plugins import Predicate, Scan, installed_registry
from aiflow_sdk.testing import SourceConformance

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>News</title>
  <item><title>First  of all</title><link>https://example.org/1</link>
    <pubDate>Fri, 20 Nov 2026 08:30:00 +0100</pubDate></item>
  <item><title>第二 &amp; more</title><link>https://example.org/2</link>
    <pubDate>20 Nov 2026 09:00:00 -0000</pubDate></item>
  <item><title/><pubDate>the day before</pubDate></item>
</channel></rss>
"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>
  <entry><title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Bold <b>words</b></div></title>
    <link rel="self" href="https://example.org/self"/><link href="https://example.org/1"/>
    <updated>2026-11-20T08:30:00Z</updated></entry>
</feed>
"""
ITEM = "<rss><channel><item><title>&a;</title></item></channel></rss>"
BOMB = '<!DOCTYPE rss [<!ENTITY b "ha"><!ENTITY a "&b;&b;&b;">]>' + ITEM
FILE = '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + ITEM
PAGES = {
    "/feed.xml": RSS,
    "/atom.xml": ATOM,
    "/bomb.xml": BOMB,
    "/page.html": "<html><body/></html>",
    "/text": "no XML",
}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Pages) as pages:
        thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{pages.server_port}"
        pages.shutdown()
        thread.join()


def rss(server: str, page: str = "/feed.xml", **options: int) -> Rss:
    return Rss.load({"url": server + page, **options})


class TestRss(SourceConformance):
    @pytest.fixture(autouse=True)
    def feed(self, server: str) -> None:
        self.source = rss(server)
        self.absent = rss(server, "/nowhere.xml")


def test_it_is_found_by_its_entry_point():
    assert installed_registry().sources.get("rss") is Rss
    assert [point.dist.name for point in entry_points(group="aiflow.sources", name="rss") if point.dist] == [
        "aiflow-example-plugin"
    ]


def test_an_rss_feed_is_read():
    assert read_items(RSS.encode(), "x") == [
        Item("First of all", "https://example.org/1", datetime(2026, 11, 20, 7, 30, tzinfo=UTC)),
        Item("第二 & more", "https://example.org/2", datetime(2026, 11, 20, 9, 0, tzinfo=UTC)),
        Item(None, None, None),
    ]


def test_an_atom_feed_is_read():
    assert read_items(ATOM.encode(), "x") == [
        Item("Bold words", "https://example.org/1", datetime(2026, 11, 20, 8, 30, tzinfo=UTC))
    ]


def test_a_feed_says_its_own_encoding():
    text = '<?xml version="1.0" encoding="iso-8859-1"?><rss><channel><item><title>Käse</title></item></channel></rss>'
    assert read_items(text.encode("latin-1"), "x")[0].title == "Käse"


@pytest.mark.parametrize(
    "text", [BOMB, FILE, "<html/>", "no XML", "", "<rss>", "<?xml version='1.0' encoding='nope'?><rss/>"]
)
def test_what_is_no_plain_feed_is_refused(text):
    with pytest.raises(DataError) as caught:
        read_items(text.encode(), "x")
    assert caught.value.code == "not-a-feed"


def test_nobody_at_the_address_may_be_there_later():
    with pytest.raises(DataNotReadyError) as caught:
        list(Rss.load({"url": "http://127.0.0.1:9/feed.xml"}).scan(Scan()))
    assert caught.value.retryable


def test_limits_are_kept(server):
    assert sum(batch.num_rows for batch in rss(server, limit=2).scan(Scan())) == 2
    assert sum(batch.num_rows for batch in rss(server).scan(Scan(limit=1))) == 1
    # The row that is wanted may be the last one.
    assert (
        sum(batch.num_rows for batch in rss(server).scan(Scan(limit=1, predicates=(Predicate("link", "==", None),))))
        == 3
    )


FUNCTIONS = """
import polars as pl

def count(news: pl.DataFrame): return news.select(pl.len().alias("n"), pl.col("link").is_null().sum().alias("lost"))
def count_on_spark(spark, inputs): return inputs["news"].selectExpr("count(*) as n", "count_if(link is null) as lost")
"""


@pytest.mark.parametrize(("engine", "function"), [("python", "count"), ("spark", "count_on_spark")])
def test_it_works_on_both_engines_because_it_speaks_arrow(server, tmp_path, monkeypatch, engine, function):
    from deltalake import DeltaTable

    from aiflow_sdk import pipeline, sink

    (tmp_path / "functions_of_news.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    declared: Any = source

    @pipeline(id="news", partition="day")
    def news(p):
        items = p.read(declared.rss(id="news", url=f"{server}/feed.xml"))
        counted = items.transform(id="counted", engine=engine, fn=f"functions_of_news:{function}")
        p.write(counted, sink.onelake(id="out", table="mart.news"))

    summary = news.run(date="2026-11-20", root=tmp_path)
    assert summary.state == "succeeded", summary
    table = DeltaTable(tmp_path / ".aiflow/lake/mart/news").to_pyarrow_table()
    assert table.to_pylist() == [{"n": 3, "lost": 1}]
