"""What speaks for a pair: equal names, words, numbers that obey a law, the graph, the order, settings, values.

Each is a matrix of target piece and source piece. They are added up with the weights in `model`, which say what
outweighs what: a name that is the same outweighs a law, a law outweighs what the graph shows, and words alone decide
between pairs for which all else is equal.
"""
