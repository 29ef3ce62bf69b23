"""Recognises by statistics what a stranger's images and labels are, and says how sure that is."""
