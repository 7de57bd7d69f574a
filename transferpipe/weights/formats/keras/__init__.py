"""Files of Keras 3: `.keras`, `.weights.h5`, shards, presets."""
