from aiflow_sdk import pipeline, source


@pipeline(id="unread_source", schedule="@daily")
def unread_source(p):
    #! unused-node | orders
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
