from aiflow_sdk import pipeline, sink, source


@pipeline(id="nothing", schedule="@daily")
def nothing(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(
        #! returned-nothing | jobs:nothing
        orders.transform(id="made", fn="jobs:nothing"),
        sink.onelake(id="out", table="mart.nothing", partition_by=["dt"]),
    )
