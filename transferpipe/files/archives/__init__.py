"""Zip archives: what their members declare, and writing them in place."""
