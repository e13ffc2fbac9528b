from aiflow_sdk import pipeline, sink, source


@pipeline(id="missing_column", schedule="@daily")
def missing_column(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    p.write(
        #! missing-partition-column | 'dt'
        orders.sql("select id from {orders}"), sink.onelake(id="out", table="mart.missing_column", partition_by=["dt"])
    )
