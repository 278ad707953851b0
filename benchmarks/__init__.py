"""One script per claim, each printing ratios measured in one run on one machine."""
