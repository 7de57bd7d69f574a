"""From rules and catalogs to a plan: pure code that reads no weight value."""
