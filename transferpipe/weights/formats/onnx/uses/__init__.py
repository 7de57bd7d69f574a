"""How nodes of an ONNX graph take tensors of the file as weights."""
