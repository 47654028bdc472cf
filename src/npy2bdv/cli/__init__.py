"""The npy2bdv command."""
