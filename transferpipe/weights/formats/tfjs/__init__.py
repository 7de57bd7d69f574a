"""Models of TensorFlow.js."""
