"""Entry points: each module is one verb, `python -m recipes.<verb>` or `speechvq <verb>`."""
