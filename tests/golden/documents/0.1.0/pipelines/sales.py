"""A bit of everything that a document of this version can say and that runs without a server."""

from aiflow_sdk import pipeline, resources, sink, source, window


@pipeline(
    id="sales",
    schedule="0 3 * * *",
    owner="team_sales",
    sla_minutes=90,
    tags=["shop", "daily"],
    timezone="Europe/Berlin",
    params={"least": 1.5},
    retries=1,
    team="sales",
    project="shop",
)
def sales(p):
    """Orders of two regions, joined, counted and written in four ways."""
    users = p.read(source.files(id="users", path="users.csv"))
    for region in ["eu", "us"]:
        b = p.branch_for_region(region)
        orders = b.read(
            source.onelake(id="orders", table=f"raw.orders_{region}", partitions={"dt": window.last(2)}, complete=1)
        )
        kept = orders.transform(
            id="keep", engine="python", fn="jobs:keep", least="{{ params.least }}", dt=p.vars["run_date"],
            token="secret://shop_token", output_table=f"shop.kept_{region}",
        )  # fmt: skip
        named = p.sql(
            "select k.id, u.name, k.amount, '{{ ds }}' as made_for from {kept} k left join {users} u on k.user_id = u.id",
            kept=kept,
            users=users,
            id=f"named_{region}",
            output_schema={"id": "int64", "name": "string", "amount": "double", "made_for": "string"},
        )
        b.write(named, sink.files(id="named_file", path=f"out/{region}", format="parquet"))
    today = p.read(source.onelake(id="today", table="raw.orders_eu", partitions={"dt": p.vars["run_date"]}))
    totals = today.transform(
        id="totals", entrypoint="jobs.totals", resources=resources.spark(cluster="sales", executor_memory="1g")
    )
    ranked = totals.transform(id="ranked", fn="jobs:rank", retries=2, timeout_minutes=5, fuse=False)
    p.write(ranked, sink.onelake(id="totals_table", table="shop.totals", partition_by=["dt"]))
