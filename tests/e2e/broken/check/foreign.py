from aiflow_sdk import pipeline, sink, source

kept = []


@pipeline(id="foreign_one")
def one(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    kept.append(orders)
    p.write(orders, sink.onelake(id="out", table="mart.one"))


one()


@pipeline(id="foreign")
def foreign(p):
    #! foreign-dataset | source
    p.write(kept[0], sink.onelake(id="out", table="mart.foreign"))
