from aiflow_sdk import pipeline, sink, source


@pipeline(id="condition", schedule="@daily")
def condition(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! variable-at-build-time | run time
    if p.vars["run_date"] > "2026-01-01":
        pass
    p.write(orders, sink.onelake(id="out", table="mart.condition", partition_by=["dt"]))
