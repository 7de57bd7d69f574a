"""What two sets of weights differ in: paired, compared value by value, shown. Nothing is written."""
