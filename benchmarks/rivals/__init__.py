"""Two usual ways to send a message to many, each at its best, for the mail benchmark to be held against."""
