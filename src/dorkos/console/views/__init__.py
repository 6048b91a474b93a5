"""From answers of operations to what templates show: pure functions, with time as an argument."""
