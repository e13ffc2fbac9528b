from aiflow_sdk import pipeline, sink, source


@pipeline(id="sql", schedule="@daily")
def sql(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(
        #! bad-sql | does not parse
        orders.sql("select * from {orders} where (id = 1"),
        sink.onelake(id="out", table="mart.sql", partition_by=["dt"]),
    )
