"""What authors write for data and resources: ``source.NAME(…)``, ``sink.NAME(…)``, ``resources.NAME(…)``.

They only record what is said and where; the compiler looks the kinds up.
"""

from aiflow_sdk.factories.connectors import Sinks, Sources, sink, source
from aiflow_sdk.factories.declaration import FROM_SCHEDULE, TRANSFORM_MARK, Declaration
from aiflow_sdk.factories.resources import Resources, resources

__all__ = [
    "FROM_SCHEDULE",
    "TRANSFORM_MARK",
    "Declaration",
    "Resources",
    "Sinks",
    "Sources",
    "resources",
    "sink",
    "source",
]
