"""The hyper-parameters of the SDC paper and of the original scripts, as data."""
