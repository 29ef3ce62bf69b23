"""Reads and writes the file formats of other projects, one module per format."""
