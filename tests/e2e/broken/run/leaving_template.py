from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving_template", schedule="@daily", params={"place": "../x.y"})
def leaving_template(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! bad-table-name | ../x.y
    p.write(orders, sink.onelake(id="out", table="{{ params.place }}"))
