"""Self-training: a recogniser labels the speech that has no text, and learns from what is sure."""
