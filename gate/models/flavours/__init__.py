"""One module for each flavour of MLflow, with one function that makes a program of the files of a model."""
