import types

import jax
import numpy as np
import pytest

from gfn_jax.models import create_model, init_variables
from gfn_jax.training import records
from gfn_jax.weights.pretrained import save_weights
from tests import small


@pytest.mark.parametrize(
  ('imported', 'blur_folder', 'warns'),
  [(True, 'blur_gamma', True), (True, 'blur', False), (False, 'blur_gamma', False)],
)
def test_imported_weights_of_mprnet_and_data_with_another_blur(
  tmp_path, capsys, imported, blur_folder, warns
):
  options = {'name': 'mprnet', **small.MPRNET}
  variables = jax.tree.map(np.asarray, init_variables(create_model(**options), seed=0))
  facts = {'imported_from': {'file': 'model_deblurring.pth'}} if imported else {}
  save_weights(tmp_path / 'mprnet.safetensors', variables, options, facts)
  dataset = types.SimpleNamespace(metadata={'blur_folder': blur_folder})
  records._report_other_blur(str(tmp_path / 'mprnet.safetensors'), dataset)
  message = 'the published weights of MPRNet were trained on `blur`, and these data have'
  assert (message in capsys.readouterr().err) == warns
