"""The creator's pages, one module a noun."""
