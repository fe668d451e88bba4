"""The ways by which notices reach people: a webhook, the cabinet of e-government, the log."""
