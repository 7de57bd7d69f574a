"""Everything that touches Keras's objects: building, walking, loading, and models as targets and sources."""
