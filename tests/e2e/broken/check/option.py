from aiflow_sdk import pipeline, sink, source


@pipeline(id="option", schedule="@daily")
def option(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unknown-option | did you mean 'partition_by'?
    p.write(orders, sink.onelake(id="out", table="mart.option", partiton_by=["dt"]))
