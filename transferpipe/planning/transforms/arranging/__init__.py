"""Transforms that put the same numbers elsewhere: other axes, parts, orders, and nothing around or between them."""
