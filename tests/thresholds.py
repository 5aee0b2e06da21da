"""Every tolerance of the tests, and where it comes from."""

# Engine against the eager oracle, class maps, relative to the largest value. Seen: 2e-6 to 2e-5 on
# random weights in float32; the requirement is 1e-3.
CLASS_MAPS = 2e-4

# ITM match probability of a pass, absolute. Seen: 6e-7.
MATCH = 1e-5

# Salience of the exported graph against autograd, relative to the largest value; as export demands.
SALIENCE = 1e-4

# Blur and upsampling against SciPy and PyTorch, absolute, values in [0, 1]. Seen: 2e-7 and 6e-6
# (PyTorch computes source positions in float32).
BLUR = 2e-6
UPSAMPLING = 2e-5

# Channels of the folded refinement against the plain one of the eager baseline. Seen: 5e-6.
CHANNELS = 5e-5

# Labels of the whole engine against the whole eager baseline, part of the pixels that differ: ties
# broken by rounding. Seen: 0.
LABELS = 1e-3
