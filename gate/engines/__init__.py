"""Where statistics are computed: an engine maps `of` over batches and folds `merge`."""
