"""The evening of 14 July in three minutes: the real stack, a small shop, and two phones."""
