"""One small loop for each duty that a handle does by itself."""
