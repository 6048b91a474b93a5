"""Tables as they are declared now; migrations must lead to exactly this."""
