"""Lattice dynamics in numpy: modes, thermal amplitudes, draws. No files, no learning."""
