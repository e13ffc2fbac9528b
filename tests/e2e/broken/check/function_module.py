from aiflow_sdk import pipeline, sink, source


@pipeline(id="function_module", schedule="@daily")
def function_module(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unknown-function | did you mean 'jobs'?
    made = orders.transform(id="made", fn="jbos:keep")
    p.write(made, sink.onelake(id="out", table="mart.function_module", partition_by=["dt"]))
