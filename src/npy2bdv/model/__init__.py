"""What a dataset is: frozen values, no I/O."""
