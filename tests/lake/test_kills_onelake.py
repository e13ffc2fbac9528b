"""Writers that die at any request of any mode, on Fabric OneLake."""

from cells.kill_claims import KillClaims


class TestKillsOnOneLake(KillClaims):
    store = "onelake"
    kills = 3
