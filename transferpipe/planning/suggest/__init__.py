"""Proposing a mapping between two catalogs: rules in the recipe's own words, with evidence and doubt.

1. `pieces`: which layer of the target can take which of the source, asked of the planner itself;
2. `evidence`: what speaks for each pair: names as `words`, numbers that obey `laws`, `graphs` and order, settings;
3. `assignment` and `matching`: one assignment of all, and what of it no other would do nearly as well;
4. `templates` and `generalise`: the fewest rules that bring about exactly that;
5. `suggest`: the rules are planned, and what crosses is left out; `text` shows what is proposed.
"""
