from aiflow_sdk import pipeline, sink, source


@pipeline(id="node_id", schedule="@daily")
def node_id(p):
    #! bad-id | 'my_orders'
    orders = p.read(source.onelake(id="my orders", table="raw.orders"))
    p.write(orders, sink.onelake(id="out", table="mart.node_id", partition_by=["dt"]))
