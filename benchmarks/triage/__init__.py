"""Whether triage keeps what was asked of it, and what NOVEL catches."""
