"""Tensor code: what happens between a batch of waveforms and a loss.

Nothing here knows files, configurations or training loops; torch and numpy are all it imports.
Letters in shapes, everywhere in the project:

    B  utterances in a batch       S  samples of a waveform (16 kHz)    T  frames
    C  channels of a feature       D  model dimension                   H  attention heads
    G  codebooks (groups)          V  entries of a codebook             K  distractors of a frame
    M  masked frames               L  layers                            N  labels of a vocabulary

Sequences travel as (tensor, lengths). `lengths` may stay on the CPU while the tensor is on an
accelerator: then a batch without padding is recognised without waiting for the device, and takes
    the faster path without masks.
"""
