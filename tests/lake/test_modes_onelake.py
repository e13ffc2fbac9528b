"""Every mode, written by every engine, on Fabric OneLake."""

from cells.claims import ModeClaims


class TestModesInOneLake(ModeClaims):
    store = "onelake"
