"""A run's id is its team's: two teams may tell of runs of one id, and so of what these made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Put the team into the keys."""
    _change_keys(["uid", "team_id"], ["run_uid", "team_id"])


def downgrade() -> None:
    """Take the team out of the keys; of several runs of one id that which was heard of first stays."""
    later = "FROM runs one JOIN runs other ON other.uid = one.uid AND other.id < one.id"
    of_it = "one.uid = makings.run_uid AND one.team_id = makings.team_id"
    again = "FROM makings other WHERE other.run_uid = makings.run_uid AND other.team_id < makings.team_id"
    for statement in (
        f"DELETE FROM makings WHERE EXISTS (SELECT 1 {later} WHERE {of_it})",
        f"DELETE FROM makings WHERE EXISTS (SELECT 1 {again})",  # retention lets runs go, and not what they made
        f"DELETE FROM usage WHERE run_id IN (SELECT one.id {later})",
        f"DELETE FROM runs WHERE id IN (SELECT one.id {later})",
    ):
        op.get_bind().exec_driver_sql(statement)
    _change_keys(["uid"], ["run_uid"])


def _change_keys(of_runs: list[str], of_makings: list[str]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        (old,) = (one["name"] for one in sa.inspect(op.get_bind()).get_unique_constraints("runs"))
        op.drop_constraint(str(old), "runs")
        op.create_unique_constraint(f"uq_runs_{'_'.join(of_runs)}", "runs", of_runs)
        op.drop_constraint("pk_makings", "makings")
        op.create_primary_key("pk_makings", "makings", of_makings)
        return
    runs = _reflected("runs")
    for constraint in [one for one in runs.constraints if isinstance(one, sa.UniqueConstraint)]:
        runs.constraints.remove(constraint)
    runs.append_constraint(sa.UniqueConstraint(*of_runs, name=op.f(f"uq_runs_{'_'.join(of_runs)}")))
    _make_anew(runs)
    makings = _reflected("makings")
    makings.constraints.remove(makings.primary_key)
    for column in makings.c:
        column.primary_key = column.name in of_makings
    makings.append_constraint(sa.PrimaryKeyConstraint(*of_makings, name=op.f("pk_makings")))
    _make_anew(makings)


def _reflected(name: str) -> sa.Table:
    return sa.Table(name, sa.MetaData(), autoload_with=op.get_bind())


def _make_anew(table: sa.Table) -> None:
    """Make a table of SQLite as it is described now, with its rows: it changes no constraint of one that is there.

    The rows are put aside first. A row that refers to one of them hangs in the air until that is back, and what is
    checked at the end of the transaction is right again: a table that takes another's place would not be counted.
    """
    run = op.get_bind().exec_driver_sql
    run("PRAGMA defer_foreign_keys=ON")
    run(f"CREATE TEMP TABLE put_aside AS SELECT * FROM main.{table.name}")
    run(f"DROP TABLE main.{table.name}")
    table.create(op.get_bind())
    run(f"INSERT INTO main.{table.name} SELECT * FROM temp.put_aside")
    run("DROP TABLE temp.put_aside")
