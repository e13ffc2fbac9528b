from aiflow_sdk import pipeline, sink, source


@pipeline(id="table", schedule="@daily")
def table(p):
    #! unknown-table | did you mean 'raw.orders'?
    orders = p.read(source.onelake(id="orders", table="raw.ordres"))
    p.write(orders, sink.onelake(id="out", table="mart.table", partition_by=["dt"]))
