"""Segmentation quality on data sets with masks: what `pnp-ovss evaluate` runs.

`datasets` names them, `metrics` counts, `evaluate` segments and counts; `ablation` takes the method
apart, `sweep` looks at every layer and head, `figures` draws.
"""
