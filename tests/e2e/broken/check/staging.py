from aiflow_sdk import pipeline, sink, source


@pipeline(id="staging", schedule="@daily")
def staging(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! outside-lake | _staging
    p.write(orders, sink.onelake(id="out", path="_staging/mine"))
