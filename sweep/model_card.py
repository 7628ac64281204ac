"""The model card that goes with an exported folder."""

from __future__ import annotations

from typing import Any

from sweep import __version__
from sweep.card import DataCard
from sweep.schema import SweepConfig

_WITH_TRANSFORMERS = """\
from transformers import pipeline

pipeline("text-classification", "PATH/TO/THIS/FOLDER", truncation=True)("A text.")"""
_WITH_PEFT = """\
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

folder = "PATH/TO/THIS/FOLDER"
base = PeftConfig.from_pretrained(folder).base_model_name_or_path
model = AutoModelForSequenceClassification.from_pretrained(base, config=AutoConfig.from_pretrained(folder))
model = PeftModel.from_pretrained(model, folder).merge_and_unload()
tokenizer = AutoTokenizer.from_pretrained(folder)
pipeline("text-classification", model, tokenizer=tokenizer, truncation=True)("A text.")"""


def model_card(
    trial: dict[str, Any],
    scores: dict[str, dict[str, float]],
    config: SweepConfig,
    card: DataCard,
    adapter: bool,
) -> str:
    """Markdown with a YAML header, in the Hugging Face form; `adapter`: the folder holds only that."""
    base = card.baselines
    rows = "\n".join(
        f"| {part} | {scores[part]['accuracy']:.4f} | {scores[part]['f1']:.4f} |"
        for part in ("validation", "test")
    )
    if card.folds:
        mean = trial["scores"]
        rows += f"\n| mean over {card.folds} folds | {mean['accuracy']:.4f} | {mean['f1']:.4f} |"
    params = "\n".join(f"- `{path}` = {value}" for path, value in trial["params"].items()) or "- none"
    labels = ", ".join(f"{number} = {name}" for number, name in enumerate(card.label_names))
    source = config.task.path or "rated sentences of Amazon product reviews (Hutto & Gilbert 2014)"
    return f"""---
library_name: transformers
pipeline_tag: text-classification
metrics:
- accuracy
- f1
---
# {config.study.name}, trial {trial["number"]}

A text classifier, fine-tuned from `{config.model.path}` and chosen by a hyperparameter sweep
(sweep {__version__}: {config.objective.direction} {config.objective.metric}, epoch {trial["best_epoch"]}).

Labels: {labels}. Texts are cut at {config.task.max_length} tokens.

| part | accuracy | F1 |
| --- | --- | --- |
{rows}
| validation, TF-IDF + logistic regression | {base.tfidf_accuracy:.4f} | {base.tfidf_f1:.4f} |
| validation, majority class | {base.majority_accuracy:.4f} | {base.majority_f1:.4f} |

The sweep chose by the validation part; the test part was scored once, by this export.

Data: {source}; {", ".join(f"{count} {part}" for part, count in card.rows.items())} rows
(sha256 of texts and labels `{card.data_hash}`).

Parameters found by the sweep:

{params}

```python
{_WITH_PEFT if adapter else _WITH_TRANSFORMERS}
```
"""
