"""Ways to look at a dataset: each shows what others read, and nothing here is imported by them."""
