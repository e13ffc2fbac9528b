from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving", schedule="@daily", params={"place": "../../outside"})
def leaving(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! outside-lake | leads out
    p.write(orders, sink.files(id="out", path="{{ params.place }}"))
