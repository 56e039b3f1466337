"""Which training: the plan, the plans that ship, and where things are kept."""
