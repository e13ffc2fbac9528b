"""Writers that die at any request of any mode, on Azure Blob."""

from cells.kill_claims import KillClaims


class TestKillsOnAzure(KillClaims):
    store = "azure"
    kills = 3
