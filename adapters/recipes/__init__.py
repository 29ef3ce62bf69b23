"""The hyper-parameters of the originals and of the paper, as data."""
