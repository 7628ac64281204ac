"""How many epochs a search needs, measured by replaying learning curves that were computed once."""
