"""Every mode, written by every engine, on Azure Blob."""

from cells.claims import ModeClaims


class TestModesInAzure(ModeClaims):
    store = "azure"
