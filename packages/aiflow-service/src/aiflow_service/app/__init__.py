"""The service put together, and started."""

from aiflow_service.app.assembly import create_app
from aiflow_service.app.server import serve
from aiflow_service.app.settings import Settings

__all__ = ["Settings", "create_app", "serve"]
