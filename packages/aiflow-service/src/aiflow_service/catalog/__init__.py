"""The catalog: jobs, datasets under all their names, columns, and what is said of them."""

from aiflow_service.catalog.memory import CatalogMemory
from aiflow_service.catalog.names import Names
from aiflow_service.catalog.owning import give_dataset, release_dataset
from aiflow_service.catalog.reading import (
    datasets_named,
    find_dataset,
    find_job,
    known_dataset,
    list_datasets,
    list_jobs,
)
from aiflow_service.catalog.schemas import write_schemas

__all__ = [
    "CatalogMemory",
    "Names",
    "datasets_named",
    "find_dataset",
    "find_job",
    "give_dataset",
    "known_dataset",
    "list_datasets",
    "list_jobs",
    "release_dataset",
    "write_schemas",
]
