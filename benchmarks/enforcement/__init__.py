"""What enforcement costs a registry server."""
