"""Which candidates are worth a label: one file per method, each a pure function of scores and features."""
