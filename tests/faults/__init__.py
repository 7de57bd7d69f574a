"""Single faults in random pairs of models, and right twins of them: which of them are refused, warned of, or silent.

``python -m tests.faults.run`` measures all of it (TABLE.md is what it wrote last). To add a kind: write one function that
makes a `Pair` from a `Draw`, and put `@fault(...)` or `@twin(...)` above it. What is right or wrong is decided by forward
passes of Keras, torch and NumPy, never by what transferpipe says.
"""
