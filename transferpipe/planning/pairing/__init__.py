"""Which source weight is meant for which target weight."""
