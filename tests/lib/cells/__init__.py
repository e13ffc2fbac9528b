"""Cells of the lake's matrix, mode × engine × store: a table of one, what must hold in it, and its writers' deaths."""
