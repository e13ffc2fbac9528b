"""The metadata service: runs, lineage and all that is known of every pipeline, told by OpenLineage, asked by HTTP."""

__version__ = "0.1.0"
