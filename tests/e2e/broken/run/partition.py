from aiflow_sdk import pipeline, sink, source


@pipeline(id="partition", schedule="@daily")
def partition(p):
    #! input-absent | 2026-11-20
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders, sink.onelake(id="out", table="mart.partition", partition_by=["dt"]))
