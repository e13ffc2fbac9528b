from aiflow_sdk import pipeline, sink, source


@pipeline(id="partition_column", schedule="@daily")
def partition_column(p):
    #! unknown-column | did you mean 'dt'?
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dtt": "{{ ds }}"}))
    p.write(orders, sink.onelake(id="out", table="mart.partition_column", partition_by=["dt"]))
