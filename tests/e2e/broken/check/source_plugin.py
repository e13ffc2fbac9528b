from aiflow_sdk import pipeline, sink, source


@pipeline(id="source_plugin", schedule="@daily")
def source_plugin(p):
    #! unknown-source | did you mean 'onelake'?
    orders = p.read(source.onelak(id="orders", table="raw.orders"))
    p.write(orders, sink.onelake(id="out", table="mart.source_plugin", partition_by=["dt"]))
