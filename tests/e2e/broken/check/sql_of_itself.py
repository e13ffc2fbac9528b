from aiflow_sdk import pipeline, sink


@pipeline(id="sql_of_itself", schedule="@daily")
def sql_of_itself(p):
    #! unknown-input | loop
    p.write(p.sql("select * from {loop}", id="loop"), sink.onelake(id="out", table="mart.sql_of_itself"))
