"""The settings, a group for each part: each has its name in the environment, its rule and its meaning."""
