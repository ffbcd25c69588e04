"""LQ and its variants, incomplete repair, NTCP and TCP; each equation cited."""
