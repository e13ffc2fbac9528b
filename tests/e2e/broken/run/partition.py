#! input-absent | 2026-11-20
from aiflow_sdk import pipeline, sink, source


@pipeline(id="partition", schedule="@daily")
def partition(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders, sink.onelake(id="out", table="mart.partition", partition_by=["dt"]))
