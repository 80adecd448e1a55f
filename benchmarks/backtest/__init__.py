"""How long a backtest over many recorded checks takes."""
