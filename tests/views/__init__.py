"""Who may look at the journal, and what they see of it."""
