"""Evaluate a network or restore photos with it, as `gfn-eval` without installation.

python run_eval.py --workdir=W                        # the test split of the run's data set
python run_eval.py --config=configs/gfn.py --config.data.data_dir=DIR --weights=FILE --output_dir=O
python run_eval.py --input_dir=LR --target_dir=HR --weights=FILE --output_dir=O
python run_eval.py --input_dir=PHOTOS --output_dir=O   # with the released weights, gfn

FILE is a file or the name of released weights, such as gfn, the default. W and O may be in a
bucket, as gs://BUCKET/... On several machines, run the same command with --distributed in each
process; they share the images (docs/cluster.md).
"""

from gfn_jax.cli import evaluate

if __name__ == '__main__':
  evaluate.run()
