"""Files of Keras 1 and 2: `.h5` by layers."""
