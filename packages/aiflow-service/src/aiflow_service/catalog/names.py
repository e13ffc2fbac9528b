"""From names to ids, for a whole group of events at once; what is new is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from aiflow_service.access.teams import Claims
from aiflow_service.catalog.memory import CatalogMemory
from aiflow_service.database.bulk import insert_rows, is_among, read_rows, select_in, update_rows
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import column_edges, columns, dataset_names, datasets, jobs, namespaces, projects
from aiflow_service.openlineage.events import Name

_NAMESPACES = sa.select(namespaces.c.name, namespaces.c.id)
_OWNED = sa.select(datasets.c.id, datasets.c.team_id, datasets.c.is_owned)
_EACH = """
SELECT {columns} FROM json_each(:given) AS given CROSS JOIN {table} AS found
ON found.{key} = json_extract(given.value, '$[0]') AND found.name = json_extract(given.value, '$[1]') AND {mine}
"""
_EACH_OF_POSTGRES = """
SELECT {columns} FROM unnest(%(keys)s::bigint[], %(names)s::text[]) AS given(key, name) CROSS JOIN LATERAL
(SELECT * FROM {table} AS found WHERE found.{key} = given.key AND found.name = given.name AND {mine} OFFSET 0) AS found
"""
"""Rows by a number and a name, whichever are asked for, and no others: an event may name tens of thousands, each in
another namespace, and a dataset may have very many columns of which others' jobs have told."""


class Names:
    """The names of one writing transaction."""

    def __init__(self, writing: Writing, memory: CatalogMemory, claims: Claims) -> None:
        self._claims = claims
        self._writing = writing
        self._memory = memory
        self._made: list[tuple[int, int, int, str, bytes, int]] = []
        self._named: list[tuple[int, str, int]] = []

    def namespace(self, name: str) -> int:
        """Return the id of a namespace that :meth:`prepare_namespaces` has seen."""
        found = self._memory.namespaces.get(name)
        assert found is not None
        return found

    def job(self, team_id: int, name: Name) -> int:
        """Return the id of a job, which is made where it is new."""
        found = self._memory.jobs.get((team_id, name))
        if found is None:
            self.prepare_jobs([(team_id, name)])
            found = self._memory.jobs.get((team_id, name))
            assert found is not None
        return found

    def dataset(self, name: Name) -> int:
        """Return the id of a dataset that :meth:`prepare_datasets` has seen."""
        found = self._memory.datasets.get(name)
        assert found is not None
        return found

    def known_dataset(self, name: Name) -> int | None:
        """Return the id of a dataset that :meth:`find_datasets` has found, or that was made."""
        return self._memory.datasets.get(name)

    def owner(self, dataset_id: int) -> int:
        """Return the team of a dataset that has been found or made."""
        found = self._memory.owners.get(dataset_id)
        if found is None:
            statement = sa.select(datasets.c.team_id).where(datasets.c.id == dataset_id)
            found = self._writing.connection.execute(statement).scalar_one()
            self._memory.owners.learn(dataset_id, found)
        return found

    def claimed_by_others(self, team_id: int, names: Iterable[Name], speaks_for_all: bool) -> bool:
        """Tell whether another team claims one of the names, so that this one may not give it to its own dataset."""
        owners = (self._claims.team_of(name[0]) for name in names)
        return not speaks_for_all and any(owner not in (None, team_id) for owner in owners)

    def forget_datasets(self) -> None:
        """Forget what names stand for: two datasets have become one."""
        for memory in (self._memory.datasets, self._memory.columns, self._memory.schemas):
            memory.forget()

    def lead_to(self, dataset_id: int, names: Iterable[Name]) -> None:
        """Note that names stand for another dataset than before: the one that theirs has become."""
        for name in list(names):
            self._memory.datasets.learn(name, dataset_id)

    def column(self, dataset_id: int, name: str) -> int:
        """Return the id of a column that :meth:`prepare_columns` has seen."""
        found = self._memory.columns.get((dataset_id, name))
        assert found is not None
        return found

    def project(self, team_id: int, name: str) -> int:
        """Return the id of a team's project, which is made where it is new."""
        found = self._memory.projects.get((team_id, name))
        if found is None:
            mine = (projects.c.team_id == team_id) & (projects.c.name == name)
            found = self._writing.connection.execute(sa.select(projects.c.id).where(mine)).scalar()
            if found is None:
                found = self._writing.number("projects")
                insert_rows(self._writing, projects, ("id", "team_id", "name"), [(found, team_id, name)])
            self._memory.projects.learn((team_id, name), found)
        return found

    def prepare_namespaces(self, names: Iterable[str]) -> None:
        """Find or make namespaces."""
        wanted = sorted({name for name in names if self._memory.namespaces.get(name) is None})
        for name, number in select_in(self._writing.connection, _NAMESPACES, namespaces.c.name, wanted):
            self._memory.namespaces.learn(name, number)
        made = [(self._writing.number("namespaces"), name) for name in wanted if not self._memory.namespaces.get(name)]
        insert_rows(self._writing, namespaces, ("id", "name"), made)
        for number, name in made:
            self._memory.namespaces.learn(name, number)

    def prepare_jobs(self, wanted: Iterable[tuple[int, Name]]) -> None:
        """Find or make jobs, each given as its team and its name."""
        unknown = sorted({one for one in wanted if self._memory.jobs.get(one) is None})
        if not unknown:
            return
        self.prepare_namespaces(name[0] for _, name in unknown)
        spaces = {self.namespace(name[0]): name[0] for _, name in unknown}
        asked: dict[int, list[tuple[int, str]]] = {}
        for team_id, name in unknown:
            asked.setdefault(team_id, []).append((self.namespace(name[0]), name[1]))
        for team_id, pairs in asked.items():
            for namespace_id, short, number in self._each(jobs, "namespace_id", pairs, "id", team_id=team_id):
                self._memory.jobs.learn((team_id, (spaces[namespace_id], short)), number)
        made = []
        for team_id, name in unknown:
            if self._memory.jobs.get((team_id, name)) is None:
                number = self._writing.number("jobs")
                made.append((number, team_id, self.namespace(name[0]), name[1], b""))
                self._memory.jobs.learn((team_id, name), number)
        insert_rows(self._writing, jobs, ("id", "team_id", "namespace_id", "name", "facts"), made)

    def find_datasets(self, wanted: Iterable[Name]) -> None:
        """Find datasets by any of their names; what is not there stays unknown."""
        unknown = sorted({one for one in wanted if self._memory.datasets.get(one) is None})
        if not unknown:
            return
        self.prepare_namespaces(name[0] for name in unknown)
        spaces = {self.namespace(name[0]): name[0] for name in unknown}
        asked = [(self.namespace(name[0]), name[1]) for name in unknown]
        for namespace_id, short, number in self._each(dataset_names, "namespace_id", asked, "dataset_id"):
            self._memory.datasets.learn((spaces[namespace_id], short), number)

    def prepare_datasets(self, team_id: int, wanted: Iterable[Name], *, is_written: bool = False) -> None:
        """Find or make datasets; a new one belongs to the team, or to the one that claims its namespace.

        What is only read is seen by the team, and becomes another's that writes it.
        """
        names = sorted(set(wanted))
        self.find_datasets(names)
        for name in names:
            if self._memory.datasets.get(name) is None:
                self.make_dataset(team_id, name, is_written=is_written)
        self.store_datasets()

    def own_datasets(self, team_id: int, written: Iterable[Name]) -> None:
        """Give the team what it writes and others, or itself, have only read until now.

        What a reader of another team has said of it goes: it is the owner's to say what columns, facts and names it
        has. Ids that are remembered may not be so afterwards: names have to be found anew.
        """
        names = sorted(set(written))
        self.find_datasets(names)
        numbers = {self._memory.datasets.get(name): name for name in names}
        unknown = sorted(one for one in numbers if one is not None and self._memory.owned.get(one) is None)
        rows = select_in(self._writing.connection, _OWNED, datasets.c.id, unknown) if unknown else ()
        mine: list[tuple[int, int]] = []
        taken: dict[int, tuple[int, Name]] = {}
        for row in rows:
            self._memory.owned.learn(row.id, True)
            if row.is_owned:
                continue
            owner = self._claims.team_of(numbers[row.id][0]) or team_id
            if owner != row.team_id:
                taken[row.id] = (owner, numbers[row.id])
            else:
                mine.append((row.id, 1))
        update_rows(self._writing, datasets, ("id", "is_owned"), mine)
        self.give_datasets(taken)

    def give_datasets(self, taken: Mapping[int, tuple[int, Name]]) -> None:
        """Give datasets to other teams, each as if that one had been the first to speak of it, under this name.

        Ids that are remembered may not be so afterwards: names have to be found anew.
        """
        if not taken:
            return
        self.forget_words({number: name for number, (_, name) in taken.items()})
        owners = [(number, owner, 1) for number, (owner, _) in taken.items()]
        update_rows(self._writing, datasets, ("id", "team_id", "is_owned"), owners)
        for number, owner, _ in owners:
            self._memory.owners.learn(number, owner)
            self._memory.owned.learn(number, True)

    def forget_words(self, kept: Mapping[int, Name]) -> None:
        """Forget what was said of datasets: columns, facts, and all names but the one that is given.

        A column stays, without what was said of it, where edges lead to it. Names have to be found anew afterwards.
        """
        connection = self._writing.connection
        named = [(self.namespace(name[0]), name[1], number) for number, name in kept.items()]
        connection.execute(dataset_names.delete().where(is_among(connection, dataset_names.c.dataset_id, kept)))
        insert_rows(self._writing, dataset_names, ("namespace_id", "name", "dataset_id"), named)
        mine = is_among(connection, columns.c.dataset_id, kept)
        unused = [
            ~sa.exists().where(key == columns.c.id) for key in (column_edges.c.target_id, column_edges.c.source_id)
        ]
        connection.execute(columns.delete().where(mine, *unused))
        connection.execute(columns.update().where(mine).values(ordinal=None, type=None, description=None))
        rows = [(number, namespace, name, None, None, b"") for namespace, name, number in named]
        fields = ("id", "namespace_id", "name", "schema_time", "schema_digest", "facts")
        update_rows(self._writing, datasets, fields, rows)
        self._writing.number("dataset_merges")  # other replicas forget whose it was, and its names
        self.forget_datasets()
        self._memory.facts.forget()

    def make_dataset(self, team_id: int, name: Name, *, is_written: bool) -> int:
        """Make a dataset, which :meth:`store_datasets` will write."""
        number = self._writing.number("datasets")
        claiming = self._claims.team_of(name[0])
        owner = claiming or team_id
        is_owned = is_written or claiming is not None
        self._memory.owners.learn(number, owner)
        if is_owned:
            self._memory.owned.learn(number, True)
        self._made.append((number, owner, self.namespace(name[0]), name[1], b"", int(is_owned)))
        self.add_name(number, name)
        return number

    def add_name(self, dataset_id: int, name: Name) -> None:
        """Say that a dataset has this name too, which no other has; :meth:`store_datasets` will write it."""
        self._named.append((self.namespace(name[0]), name[1], dataset_id))
        self._memory.datasets.learn(name, dataset_id)

    def store_datasets(self) -> None:
        """Write the datasets and names that were made."""
        insert_rows(self._writing, datasets, ("id", "team_id", "namespace_id", "name", "facts", "is_owned"), self._made)
        insert_rows(self._writing, dataset_names, ("namespace_id", "name", "dataset_id"), self._named)
        self._made, self._named = [], []

    def prepare_columns(self, wanted: Iterable[tuple[int, str]]) -> None:
        """Find or make columns, each given as its dataset's id and its name."""
        unknown = sorted({one for one in wanted if self._memory.columns.get(one) is None})
        if not unknown:
            return
        for dataset_id, name, number in self._each(columns, "dataset_id", unknown, "id"):
            self._memory.columns.learn((dataset_id, name), number)
        made = []
        for dataset_id, name in unknown:
            if self._memory.columns.get((dataset_id, name)) is None:
                number = self._writing.number("columns")
                made.append((number, dataset_id, name))
                self._memory.columns.learn((dataset_id, name), number)
        insert_rows(self._writing, columns, ("id", "dataset_id", "name"), made)

    def _each(
        self, table: sa.Table, key: str, asked: Sequence[tuple[int, str]], column: str, *, team_id: int | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """Return key, name and a column of a table's rows that have any of these keys and names together."""
        mine = "TRUE" if team_id is None else f"found.team_id = {team_id}"
        parts = {"columns": f"found.{key}, found.name, found.{column}", "table": table.name, "key": key, "mine": mine}
        connection = self._writing.connection
        if not self._writing.is_postgres:
            return read_rows(connection, _EACH.format(**parts), {"given": json.dumps(asked)})
        given = {"keys": [one[0] for one in asked], "names": [one[1] for one in asked]}
        return read_rows(connection, _EACH_OF_POSTGRES.format(**parts), given)
