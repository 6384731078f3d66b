"""The main light, labelled by hand: a page that asks people, their answers and agreement, and a model taught by them."""
