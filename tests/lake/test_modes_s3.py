"""Every mode, written by every engine, on S3."""

from cells.claims import ModeClaims


class TestModesInS3(ModeClaims):
    store = "s3"
