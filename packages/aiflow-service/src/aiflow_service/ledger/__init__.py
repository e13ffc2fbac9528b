"""The partition ledger: what made each partition of each dataset, and which of them have to be made again."""

from aiflow_service.ledger.fold import MakingFold
from aiflow_service.ledger.reading import list_partitions, list_repairs
from aiflow_service.ledger.writing import MakingPart, making_parts, write_makings

__all__ = ["MakingFold", "MakingPart", "list_partitions", "list_repairs", "making_parts", "write_makings"]
