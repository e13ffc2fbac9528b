from aiflow_sdk import pipeline, sink, source


@pipeline(id="variable", schedule="@daily")
def variable(p):
    #! unknown-variable | did you mean 'run_date'?
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_dat"]}))
    p.write(orders, sink.onelake(id="out", table="mart.variable", partition_by=["dt"]))
