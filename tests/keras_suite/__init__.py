"""What the tests of the installed Keras configure, transferred: see run.py for the command and TABLE.md for its counts."""
