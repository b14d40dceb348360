"""From logits to text (`greedy`), and from text to error rates that can be trusted (`scoring`)."""
