"""Every mode, written by every engine, in a folder."""

from cells.claims import ModeClaims


class TestModesInFolder(ModeClaims):
    store = "folder"
