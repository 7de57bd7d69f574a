"""References that are graphs in files: ONNX and SavedModels, what may be run of them, and what runs it."""
