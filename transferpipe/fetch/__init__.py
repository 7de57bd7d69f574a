"""Where files are: addresses, downloads, the cache, and opening what was found."""
