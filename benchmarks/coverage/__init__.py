"""How often intervals hold what they are intervals of."""
