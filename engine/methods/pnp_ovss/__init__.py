"""PnP-OVSS: cross-attention times the gradient of the match, with Salience DropOut (CVPR 2024)."""
