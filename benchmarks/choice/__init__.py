"""The suite: auto beside every fixed plan and beside its peers, over many workloads."""
