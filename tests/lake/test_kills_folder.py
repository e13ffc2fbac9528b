"""Writers that die at any step of any mode, in a folder."""

from cells.kill_claims import EVERY_SCENARIO, KillClaims


class TestKillsInAFolder(KillClaims):
    store = "folder"
    kills = 11
    scenarios = EVERY_SCENARIO
