"""Training on fairseq2's engine: data order, units, guards, runs.

The only package that imports fairseq2's trainer, process groups, checkpoints and data pipeline.
`training.config` stays free of torch, so that the command line answers at once; everything else is
imported from its module.
"""
