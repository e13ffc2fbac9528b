from aiflow_sdk import pipeline, sink, source


@pipeline(id="engine", schedule="@daily")
def engine(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unknown-engine | did you mean 'spark'?
    made = orders.transform(id="made", engine="sprak", fn="jobs:keep")
    p.write(made, sink.onelake(id="out", table="mart.engine", partition_by=["dt"]))
