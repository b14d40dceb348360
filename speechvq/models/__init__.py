"""Models: front end, Transformer, quantiser and heads put together, and the directory that a model
is stored in.

`config` and `presets` know no torch; `build` turns a configuration into modules; `directory` writes
and reads models.
"""
