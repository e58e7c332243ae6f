"""Ways to the minimum of an Objective, one per file, and the monitor that they share."""
