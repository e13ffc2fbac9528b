from aiflow_sdk import pipeline, source


@pipeline(id="build_raises", schedule="@daily")
def build_raises(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    #! build-failed | KeyError
    {}["a"]
