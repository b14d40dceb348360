"""Recognisers at work: transcribe (`recognizer`), evaluate, compare; no training engine here."""
