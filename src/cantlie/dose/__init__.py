"""Attenuation, TERMA, collapsed cone convolution and the influence matrix."""
