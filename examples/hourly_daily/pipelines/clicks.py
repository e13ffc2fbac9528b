"""Clicks by the hour, and by the day from the hours: the day has 23 or 25 of them when the clocks change.

A day that is there starts what ranks its pages.
"""

from aiflow_sdk import dataset, pipeline, sink, source, window

ZONE = "America/New_York"


@pipeline(id="clicks_hourly", schedule="5 * * * *", owner="team_web", timezone=ZONE)
def clicks_hourly(p):
    raw = p.read(source.onelake(id="raw_clicks", table="raw.clicks", partitions={"hour": window.same()}))
    pages = raw.transform(id="count_pages", engine="python", fn="etl.clicks:count_pages")
    p.write(pages, sink.onelake(id="hourly", table="web.clicks_hourly", partition_by=["hour"]))


@pipeline(id="clicks_daily", schedule="30 0 * * *", owner="team_web", timezone=ZONE)
def clicks_daily(p):
    hours = p.read(
        source.onelake(id="hours", table="web.clicks_hourly", partitions={"hour": window.covering()}, complete="all")
    )
    days = hours.transform(id="sum_pages", engine="python", fn="etl.clicks:sum_pages", dt=p.vars["run_date"])
    p.write(days, sink.onelake(id="daily", table="web.clicks_daily", partition_by=["dt"]))


@pipeline(id="clicks_top", schedule=dataset("web.clicks_daily"), partition="day", owner="team_web", timezone=ZONE)
def clicks_top(p):
    days = p.read(source.onelake(id="days", table="web.clicks_daily", partitions={"dt": window.same()}))
    top = days.transform(id="rank_pages", engine="python", fn="etl.clicks:rank_pages")
    p.write(top, sink.onelake(id="top", table="web.clicks_top", partition_by=["dt"]))
