from aiflow_sdk import pipeline, sink, source


@pipeline(id="no_time", schedule=None)
def no_time(p):
    #! no-time-partition | partition=
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders, sink.onelake(id="out", table="mart.no_time", partition_by=["dt"]))
