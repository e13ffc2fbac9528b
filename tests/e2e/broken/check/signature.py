from aiflow_sdk import pipeline, sink, source


@pipeline(id="signature", schedule="@daily")
def signature(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! wrong-signature | jobs.py:7
    made = orders.transform(id="made", fn="jobs:wants_more", threshold=1.0)
    p.write(made, sink.onelake(id="out", table="mart.signature", partition_by=["dt"]))
