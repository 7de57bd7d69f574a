"""What llama.cpp and its kin write."""
