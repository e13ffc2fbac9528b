"""How late each airline left New York, day by day."""

from aiflow_sdk import pipeline, resources, sink, source


@pipeline(
    id="flights_daily",
    schedule="0 3 * * *",
    owner="team_flights",
    tags=["flights", "features"],
    start_date="2013-01-01",
    timezone="America/New_York",
)
def flights_daily(p):
    flights = p.read(source.onelake(id="flights", table="raw.flights", partitions={"dt": p.vars["run_date"]}))
    delays = flights.transform(
        id="delays",
        engine="spark",
        entrypoint="etl.delays:main",
        resources=resources.spark(cluster="emr-flights", executor_memory="4g"),
    )
    ranked = delays.transform(id="rank", engine="python", fn="etl.rank:main", late_minutes=15)
    p.write(
        ranked, sink.onelake(id="daily_delays", table="feature.daily_delays", mode="overwrite", partition_by=["dt"])
    )
