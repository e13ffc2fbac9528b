"""Airflow's side of aiflow: deployed plans as ordinary DAGs, whose tasks run in the user's own environment.

Nothing here imports user code: what Airflow parses are compiled documents, and a task is a child process of the
interpreter that the project's lock asks for.
"""
