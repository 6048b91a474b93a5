"""An hour at a tenth of the peak, and whether anything grows that should not."""
