"""The continuous loop: rounds of dataset, training, gate and reload, asked of a server by HTTP."""
