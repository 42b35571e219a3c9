"""How each level is decided: autoregressive, masked, values; policies and constraints."""
