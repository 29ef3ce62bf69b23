"""The formats of others, a file each."""
