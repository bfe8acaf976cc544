"""What is shown and written for people: lines of a terminal, reports."""
