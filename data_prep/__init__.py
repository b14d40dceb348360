"""Entry points that turn recordings into a corpus: `python -m data_prep.prepare`."""
