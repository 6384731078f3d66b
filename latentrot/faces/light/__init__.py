"""Hand labels of the main light: a labelling page, the answers and their agreement, and a model trained on them."""
