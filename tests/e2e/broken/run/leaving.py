#! outside-lake | leads out
from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving", schedule="@daily", params={"place": "../../outside"})
def leaving(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders, sink.files(id="out", path="{{ params.place }}"))
