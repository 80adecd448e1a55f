"""The gate inside MLflow: evidence recorded next to the model that it is about."""
