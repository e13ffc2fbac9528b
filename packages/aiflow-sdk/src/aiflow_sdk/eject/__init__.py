"""Leaves aiflow: writes a pipeline as a plain DAG file of Airflow, which gives the same tables."""

from aiflow_sdk.eject.dag import Ejected, eject_pipeline

__all__ = ["Ejected", "eject_pipeline"]
