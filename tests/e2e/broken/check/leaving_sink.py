from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving_sink", schedule="@daily")
def leaving_sink(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! bad-table-name | schema.table
    p.write(orders, sink.onelake(id="out", table="mart/../../x.y"))
