"""What Keras's classes, names and configurations mean for weights."""
