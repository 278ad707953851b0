"""Jobs: our own long commands run by workers, durably, and told of while they run."""
