"""Reading and writing files of conversations, streamed; see `read` and `write`."""
