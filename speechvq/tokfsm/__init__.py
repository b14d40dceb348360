"""The experiment of "Codebook Features" (arXiv 2310.17230, section 4): a language model of a
machine whose states are known, so that the codes of its hidden states can be checked against them.
"""
