"""Row steps that look at one conversation alone: one rule a file."""
