"""What can be converted into a dataset."""
