from aiflow_sdk import pipeline, sink, source


@pipeline(id="sink_plugin", schedule="@daily")
def sink_plugin(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unknown-sink | did you mean 'files'?
    p.write(orders, sink.flies(id="out", path="a.csv"))
