"""The REST API, a module a noun. Its description is at ``/openapi.json``; every error is a problem document."""

from aiflow_service.api.routes import ROUTERS
from aiflow_service.api.services import Services

__all__ = ["ROUTERS", "Services"]
