"""Evaluates a network on a test set, or restores photos with it: `gfn-eval`, without installing it.

python run_eval.py --workdir=W                                   # the run's own test split
python run_eval.py --config=configs/gfn.py --config.data_dir=DIR --weights=FILE --output_dir=O
python run_eval.py --input_dir=LR --target_dir=HR --weights=FILE --output_dir=O
python run_eval.py --input_dir=PHOTOS --weights=FILE --output_dir=O

In place of FILE stands the name of released weights, too, such as gfn. W and O may be in a bucket:
gs://BUCKET/... On several machines the same command with --distributed runs in each process, and
they share the images (docs/cluster.md).
"""

from gfn_jax.cli import evaluate

if __name__ == '__main__':
  evaluate.run()
