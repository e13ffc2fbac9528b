from aiflow_sdk import pipeline, sink, source


@pipeline(id="sql_input", schedule="@daily")
def sql_input(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    users = p.read(source.onelake(id="users", table="raw.users"))
    p.write(
        #! unknown-input | did you mean 'orders'?
        p.sql("select * from {ordres} join {users} using (id)", orders, users),
        sink.onelake(id="out", table="mart.sql_input"),
    )
