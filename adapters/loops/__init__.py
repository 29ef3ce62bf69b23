"""The loops that the methods share."""
