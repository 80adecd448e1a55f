"""Whether calibrated policies keep the rate of false alarms that they state, on models that are trained for it."""
