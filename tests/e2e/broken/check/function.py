from aiflow_sdk import pipeline, sink, source


@pipeline(id="function", schedule="@daily")
def function(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unknown-function | did you mean 'keep'?
    made = orders.transform(id="made", fn="jobs:kep")
    p.write(made, sink.onelake(id="out", table="mart.function", partition_by=["dt"]))
