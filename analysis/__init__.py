"""The equations of "Identity Mappings in Deep Residual Networks" measured on real networks."""
