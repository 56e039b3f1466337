"""What a training tells of single clients or records, and how it is counted."""
