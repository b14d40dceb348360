"""The demo: the whole line on synthetic speech, from sentences to one page of results."""
