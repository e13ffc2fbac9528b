from aiflow_sdk import pipeline, sink, source


@pipeline(id="column", schedule="@daily")
def column(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(
        orders.sql(
            #! unknown-column | did you mean 'amount'?
            "select id, sum(amout) as amount, dt from {orders} group by all"
        ),
        sink.onelake(id="out", table="mart.column", partition_by=["dt"]),
    )
