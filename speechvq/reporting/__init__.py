"""Reports: one self-contained HTML file (`page`) with pictures (`charts`); no tensors here."""
