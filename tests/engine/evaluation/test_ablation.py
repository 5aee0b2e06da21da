from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pnp_ovss.engine import Settings
from pnp_ovss.engine.errors import ModelError
from pnp_ovss.engine.evaluation import ablation
from pnp_ovss.engine.evaluation.attention import attention_only
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.export.validate import relative_error
from tests import thresholds
from tests.conftest import Exported

LAYER, HEAD = 2, 3  # of the model that is exported for tests


def test_without_its_gradient_salience_is_the_attention(exported: Exported):
    random = np.random.default_rng(0)
    model: Any = exported.model
    patches = open_model(exported.folder).manifest.preprocess.patches
    width = model.config.vision_config.hidden_size
    feeds = {
        "image_embeds": random.normal(size=(2, 1 + patches, width)).astype(np.float32),
        "input_ids": random.integers(5, 1000, (2, 7)),
        "attention_mask": np.ones((2, 7), np.int64),
        "patch_keep": np.ones((2, patches), np.float32),
    }
    attentions = []
    layer = model.text_encoder.encoder.layer[LAYER].crossattention.self
    handle = layer.dropout.register_forward_hook(lambda *args: attentions.append(args[2]))
    with torch.no_grad():
        model.text_encoder(
            input_ids=torch.from_numpy(feeds["input_ids"]),
            attention_mask=torch.ones(2, 7),
            encoder_hidden_states=torch.from_numpy(feeds["image_embeds"]),
        )
    handle.remove()

    whole = open_runner(open_model(exported.folder), "salience").run(feeds)
    with attention_only(open_model(exported.folder)) as folder:
        assert open_model(folder).manifest.settings == Settings()
        bare = open_runner(open_model(folder), "salience").run(feeds)
    wanted = attentions[0][:, HEAD, :, 1:].numpy()
    assert relative_error(bare["salience"], wanted) < thresholds.SALIENCE
    assert relative_error(whole["salience"], wanted) > 0.5
    np.testing.assert_array_equal(bare["itm_logits"], whole["itm_logits"])


def test_a_graph_without_a_gradient_is_an_error(model_copy: Path):
    model = open_model(model_copy)
    path = model_copy / model.manifest.graphs["salience"].file
    graph = onnx.load(path, load_external_data=False)
    for node in graph.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Abs"
    onnx.save(graph, path)
    with pytest.raises(ModelError, match="no gradient"), attention_only(model):
        pass


def test_stages_lead_from_bare_attention_to_the_settings():
    settings = Settings(passes=3, drop_schedule=7, threshold=0.2, blur=0.03)
    rows = ablation.stages(settings)
    assert [row.gradient for row in rows] == [False, True, True, True, True]
    assert [row.settings.passes for row in rows] == [1, 1, 3, 3, 3]
    assert [row.settings.blur for row in rows] == [0, 0, 0, 0.03, 0.03]
    assert [row.settings.crf for row in rows] == [None] * 4 + ["densecrf"]
    assert rows[-1].settings == settings
    assert {row.settings.threshold for row in rows} == {0.2}
    assert len(ablation.stages(Settings(crf=None))) == 4


def test_settings_of_one_pass_show_what_more_would_do():
    settings = Settings(passes=1, drop_schedule=7)
    rows = ablation.stages(settings)
    assert [row.settings.passes for row in rows] == [1, 1, 4, 4, 4, 1]
    assert rows[-1].settings == settings
    assert {row.settings.passes for row in ablation.drop_modes(settings)} == {4}
