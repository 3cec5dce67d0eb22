"""Tables are maintained beside the batches: what is due, in which order, within which budget."""
