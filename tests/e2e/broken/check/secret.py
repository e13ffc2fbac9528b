from aiflow_sdk import pipeline, sink, source


@pipeline(id="secret", schedule="@daily")
def secret(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! literal-secret | secret://
    made = orders.transform(id="made", fn="jobs:keep", params={"password": "hunter2hunter2"})
    p.write(made, sink.onelake(id="out", table="mart.secret", partition_by=["dt"]))
