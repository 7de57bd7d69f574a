"""What a model holds beside the weights of its layers."""
