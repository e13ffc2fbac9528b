from aiflow_sdk import pipeline, sink, source


@pipeline(id="twice", schedule="@daily")
def twice(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! duplicate-node-id | 'orders'
    p.read(source.onelake(id="orders", table="raw.orders"))
    p.write(orders, sink.onelake(id="out", table="mart.twice", partition_by=["dt"]))
