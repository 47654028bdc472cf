"""Write, stream, read and edit BigDataViewer / BigStitcher datasets from numpy."""
