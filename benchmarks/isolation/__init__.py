"""What a process of its own costs a model: until it is ready, and for every row."""
