"""TensorFlow's tensor bundle: the files of a checkpoint, and what lies in them."""
