from aiflow_sdk import pipeline, sink, source


@pipeline(id="long_node_id", schedule="@daily")
def long_node_id(p):
    #! bad-id | 300 characters
    orders = p.read(source.onelake(id="xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", table="raw.orders"))
    p.write(orders, sink.onelake(id="out", table="mart.long_node_id", partition_by=["dt"]))
