from aiflow_sdk import pipeline, sink, source


@pipeline(id="read_back", schedule="@daily")
def read_back(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders, sink.onelake(id="out", table="mart.read_back", partition_by=["dt"]))
    #! sink-read-back | 'out' writes in the same run
    again = p.read(source.onelake(id="again", table="mart.read_back"))
    p.write(again, sink.onelake(id="other", table="mart.other"))
