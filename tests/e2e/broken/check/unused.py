from aiflow_sdk import pipeline, sink, source


@pipeline(id="unused", schedule="@daily")
def unused(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unused-node | p.write
    orders.transform(id="lost", fn="jobs:keep")
    p.write(orders, sink.onelake(id="out", table="mart.unused", partition_by=["dt"]))
