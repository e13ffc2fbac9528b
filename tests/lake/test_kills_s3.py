"""Writers that die at any request of any mode, on S3."""

from cells.kill_claims import KillClaims


class TestKillsOnS3(KillClaims):
    store = "s3"
    kills = 3
