from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving_files", schedule="@daily")
def leaving_files(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! outside-lake | lake
    p.write(orders, sink.files(id="out", path="../outside"))
