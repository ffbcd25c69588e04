"""LQ and its variants, repair between sessions, volume effect, NTCP and TCP; every equation and parameter cited."""
