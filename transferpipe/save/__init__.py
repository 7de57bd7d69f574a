"""Outputs: one row each, their writers, exports and what lies beside them."""
