"""What Flax writes: a tree of arrays in MessagePack."""
