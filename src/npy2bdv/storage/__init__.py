"""Where pixels live; one file per format."""
