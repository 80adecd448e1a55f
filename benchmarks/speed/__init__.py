"""How fast the geometry suite is: against public packages and against what the machine could do at best."""
