"""A module that makes a model while it is imported."""

import os

import tricky_builders

MODEL = tricky_builders.plain()
MODEL.load_weights(os.environ["TRICKY_WEIGHTS"])
