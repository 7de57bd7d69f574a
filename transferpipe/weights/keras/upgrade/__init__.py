"""From the configuration of an older Keras to one that Keras 3 builds: data to data, by tables, nothing runs."""
