"""From a folder of recordings to a Parquet corpus, and from a corpus back to typed records.

Nothing here imports Hydra, fairseq2 or a model; import the modules by name (`speechvq.data.corpus`,
`speechvq.data.audio`, …).
"""
