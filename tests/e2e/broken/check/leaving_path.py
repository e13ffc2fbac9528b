from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving_path", schedule="@daily")
def leaving_path(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! outside-lake | lake
    p.write(orders, sink.onelake(id="out", path="mart/../../outside"))
