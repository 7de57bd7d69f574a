"""HDF5 as a container: its datasets read in place."""
