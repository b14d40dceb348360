"""Hydra's place: run schemas, composition, checks, and the start of every recipe.

Nothing below this package knows Hydra or OmegaConf.
"""
