from aiflow_sdk import pipeline, sink, source


#! bad-schedule | did you mean '@daily'?
@pipeline(id="schedule", schedule="@dayly")
def schedule(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders, sink.onelake(id="out", table="mart.schedule", partition_by=["dt"]))
