from aiflow_sdk import pipeline, sink, source


@pipeline(id="leaving_table", schedule="@daily")
def leaving_table(p):
    #! bad-table-name | schema.table
    orders = p.read(source.onelake(id="orders", table="../etc.passwd"))
    p.write(orders, sink.onelake(id="out", table="mart.leaving_table", partition_by=["dt"]))
