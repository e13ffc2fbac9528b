"""A project's plugins, installed and its own, and the plans that are compiled with them.

Plans with what a project registers itself are compiled in a child process, so that user code is imported nowhere else.
"""

from aiflow_sdk.workspace.workspace import Workspace

__all__ = ["Workspace"]
