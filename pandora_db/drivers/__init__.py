"""The two engines behind one seam: `base.Session` is all that a store knows of them."""
