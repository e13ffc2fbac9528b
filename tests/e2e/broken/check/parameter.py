from aiflow_sdk import pipeline, sink, source


@pipeline(id="parameter", schedule="@daily", params={"least": 1})
def parameter(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! unknown-param | did you mean 'least'?
    made = orders.transform(id="made", fn="jobs:keep", params={"x": "{{ params.leats }}"})
    p.write(made, sink.onelake(id="out", table="mart.parameter", partition_by=["dt"]))
