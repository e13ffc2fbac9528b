from aiflow_sdk import pipeline, sink, source


@pipeline(id="user_column", schedule="@daily")
def user_column(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(
        #! user-code-failed | amout
        orders.transform(id="made", fn="jobs:wrong_column"),
        sink.onelake(id="out", table="mart.user_column", partition_by=["dt"]),
    )
