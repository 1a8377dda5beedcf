"""Which configurations are proposed: one file per method, each a streamed pool that is a function of its seed."""
