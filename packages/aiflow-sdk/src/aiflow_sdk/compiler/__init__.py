"""The compiler: from what a pipeline means (IR) to what will run (Plan).

One pass a module, in this order: ``check`` finds every problem at once, ``columns`` those of SQL against known schemas,
``resolve`` spells every value out for one environment, ``fuse`` makes tasks of nodes, ``stage`` decides what lies
between tasks.
"""

from aiflow_sdk.compiler.compile import compile_pipeline, compile_pipeline_to_airflow_dag

__all__ = ["compile_pipeline", "compile_pipeline_to_airflow_dag"]
