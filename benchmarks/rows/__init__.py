"""One module per row of the table, or for two that are alike."""
