"""What is said about a plan: warnings as a whole, and what to write instead."""
