"""Original and pre-activation ResNets for 32x32 images."""
