"""What the fork server imports once, so that ranks need not: modules, and what libraries build on first use.

Importing this has to stay fork-safe: no CUDA, no threads, no parallel region.
"""

from __future__ import annotations

import gc

gc.disable()  # nothing that is imported is garbage; looking for it takes an eighth of the time

# ruff: noqa: E402
import transformers.masking_utils
import transformers.modeling_layers  # noqa: F401  what every model's module imports
from optuna.storages import RDBStorage

import sweep.attempt
import sweep.prepare  # noqa: F401
from sweep.grammar import parse_override

# SQLAlchemy's mappers, Alembic and its scripts (0.9 s), Hydra's parser.
RDBStorage("sqlite://").engine.dispose()
parse_override("trainer.seed=0")
# Ranks collect garbage often; what they inherit is none (and would be copied by looking at it).
gc.collect()
gc.freeze()
gc.enable()
