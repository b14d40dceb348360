"""Steering: codes of a recogniser are switched, and what it then writes is measured."""
