"""Pauling electronegativities (dimensionless; CRC Handbook of Chemistry and Physics, section 9), by atomic number."""

from __future__ import annotations

# fmt: off
_VALUES = (  # from hydrogen on, period by period; 0 where none is assigned
    2.20, 0,
    0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 0,
    0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 0,
    0.82, 1.00, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96, 0,
    0.82, 0.95, 1.22, 1.33, 1.6, 2.16, 1.9, 2.2, 2.28, 2.20, 1.93, 1.69, 1.78, 1.96, 2.05, 2.1, 2.66, 2.6,
    0.79, 0.89,
    1.10, 1.12, 1.13, 1.14, 0, 1.17, 0, 1.20, 0, 1.22, 1.23, 1.24, 1.25, 0, 1.27,
    1.3, 1.5, 2.36, 1.9, 2.2, 2.2, 2.28, 2.54, 2.00, 1.62, 2.33, 2.02, 2.0, 2.2, 0,
    0.7, 0.9, 1.1, 1.3, 1.5, 1.38, 1.36, 1.28,
)
# fmt: on
PAULING = dict(enumerate(_VALUES, start=1))
