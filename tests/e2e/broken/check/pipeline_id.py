from aiflow_sdk import pipeline, sink, source


#! bad-id | 'my_pipeline'
@pipeline(id="my pipeline")
def one(p):
    p.write(p.read(source.onelake(id="a", table="raw.orders")), sink.onelake(id="out", table="mart.pipeline_id"))
